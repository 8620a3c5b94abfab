"""Growth: how what a call costs moves with connections, tools, plugins, sessions, history, payload and keys.

Each point of a curve is the median of runs by turns, up the points and down again, with the least and the most of them. Sessions only
become more: their points come one after the other.
Must not know how a page is made of it.
"""

import base64
import contextlib
import hashlib
import json
import resource
import secrets
import sqlite3
import statistics
import subprocess
import time
from pathlib import Path

from benchmarks import plots
from benchmarks.building import build_gateway
from benchmarks.history import fill_history
from benchmarks.load import run_by_turns
from benchmarks.place import CannotMeasure, LOAD_CPU, ROOT, WAIT_SECONDS
from benchmarks.servers import Gateway, Server, at_url
from benchmarks.wire import CALL, CALL_HEADERS, MESSAGE, ask, body_of, headers_of, legacy_call, open_session

CONNECTIONS_AT = (1, 4, 16, 64, 256, 1_024, 4_096, 10_000)
TOOLS_AT = (10, 100, 1_000, 10_000)
PLUGINS_AT = (1, 3, 10, 30, 100)
SESSIONS_AT = (1, 100, 1_000, 3_000, 10_000)
ROWS_AT = (0, 10_000, 100_000, 1_000_000, 5_000_000)
BYTES_AT = (100, 1_024, 10_240, 102_400, 1 << 20, 4 << 20, 16 << 20)
KEYS_AT = (1, 10, 100, 1_000, 10_000)
# What a name finds by an index, and the two that take longest with five million rows: several filters, and a client nowhere.
QUESTIONS = {
    "by_tool": ["--tool", "p7__tool7"],
    "by_tool_caller_and_status": ["--tool", "p7__tool7", "--caller", "key:7", "--status", "failed"],
    "of_a_client_that_is_not_there": ["--client", "nobody"],
}
MIB = 1 << 20


def point(at, values):
    return [at, statistics.median(values), min(values), max(values)]


def curve(title, up, **series):
    """What one picture shows; names are said with blanks."""
    return {"title": title, "up": up, "series": {name.replace("_", " "): own for name, own in series.items()}}


def of_runs(runs, key):
    """A line of it, of runs whose names are where they stand."""
    return [point(at, [run[key] for run in own]) for at, own in runs.items()]


def costs(runs, title):
    return [curve(title, "us of cpu a call", cpu=of_runs(runs, "cpu_us"))]


def allow_files(needed):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
        except (ValueError, OSError):
            raise CannotMeasure(f"{needed} open files are needed and {hard} allowed: raise `ulimit -n`") from None


def connections(bench):
    allow_files(CONNECTIONS_AT[-1] + 1_000)
    with bench.server("waygate") as server:
        runs = run_by_turns(bench, {count: (server, {"connections": count}) for count in CONNECTIONS_AT})
    return [curve("Calls a second by connections", "calls/s", rate=of_runs(runs, "rps")),
            curve("p99 by connections", "ms", p99=of_runs(runs, "p99_ms")), *costs(runs, "Cost of a call by connections")]


def behind_upstream(bench, stack, tools=1):
    program = [str(build_gateway(bench) / "upstream"), "--tools", str(tools)]
    return stack.enter_context(Server(f"upstream-{tools}", program, bench.folder, cpu=LOAD_CPU))


def tools(bench):
    with contextlib.ExitStack() as stack:
        calls, lists = {}, {}
        for count in TOOLS_AT:
            upstream = behind_upstream(bench, stack, count)
            plugins = {"up": at_url(f"http://127.0.0.1:{upstream.port}/mcp")}
            server = stack.enter_context(Gateway(f"tools-{count}", plugins, bench.folder, "/mcp/up"))
            calls[count] = (server, {})
            listing = {"body": body_of("tools/list", {}), "headers": headers_of("tools/list"), "sought": '"tools"'}
            lists[count] = (server, listing)
        called, listed = run_by_turns(bench, calls), run_by_turns(bench, lists)
        memory = [point(count, [server.rss_kb() / 1024]) for count, (server, _) in calls.items()]
    return [curve("Cost by tools on offer", "us of cpu", a_call=of_runs(called, "cpu_us"), a_page_of_up_to_100=of_runs(listed, "cpu_us")),
            curve("Memory by tools on offer", "MB", memory=memory)]


def plugins(bench):
    with contextlib.ExitStack() as stack:
        upstream = behind_upstream(bench, stack)
        servers = {}
        for count in PLUGINS_AT:
            files = {f"p{n}": at_url(f"http://127.0.0.1:{upstream.port}/mcp/p{n}") for n in range(count)}
            server = stack.enter_context(Gateway(f"plugins-{count}", files, bench.folder, f"/mcp/p{count - 1}"))
            servers[count] = (server, {})
        runs = run_by_turns(bench, servers)
        memory = [point(count, [server.rss_kb() / 1024]) for count, (server, _) in servers.items()]
    return [*costs(runs, "Cost of a call by plugins"), curve("Memory by plugins", "MB", memory=memory)]


def sessions(bench):
    lines = {"cpu_us": [], "rss_mb": []}
    with bench.server("waygate") as server:
        open_now, headers = 0, None
        for count in SESSIONS_AT:
            while open_now < count:
                headers, open_now = open_session(server), open_now + 1
            call = legacy_call("echo", headers)
            bench.load.warm_up(server, **call)
            runs = [bench.load.run(server, bench.seconds, **call) for _ in range(bench.rounds)]
            for key, line in lines.items():
                line.append(point(count, [run[key] for run in runs]))
    return [curve("Cost of a call by open sessions", "us of cpu a call", cpu=lines["cpu_us"]),
            curve("Memory by open sessions", "MB", memory=lines["rss_mb"])]


def history(bench):
    folders = {count: f"history-{count}" for count in ROWS_AT}
    with contextlib.ExitStack() as stack:
        servers = {}
        for count, folder in folders.items():
            with bench.server("waygate", data=folder):
                pass  # It makes the database.
            if count:
                fill_history(Path(bench.folder) / folder / "data/waygate.db", count)
            servers[count] = (stack.enter_context(bench.server("waygate", data=folder)), {})
        # Before the load, which adds rows.
        asked = ask_histories(bench, folders)
        runs = run_by_turns(bench, servers)
    return [curve("Calls a second by rows of the history", "calls/s", rate=of_runs(runs, "rps")),
            curve("A question to the history, by its rows", "ms", **asked)]


def ask_histories(bench, folders):
    """A line of each question, over the histories by their rows."""
    asked = {name: {count: [] for count in folders} for name in QUESTIONS}
    for turn in range(bench.rounds):
        for count in folders if turn % 2 == 0 else reversed(folders):
            for name, words in QUESTIONS.items():
                asked[name][count].append(ask_history(bench, Path(bench.folder) / folders[count], words))
    return {name: [point(at, own) for at, own in own.items()] for name, own in asked.items()}


def ask_history(bench, data, words):
    """Milliseconds of one question, start of the process and all."""
    command = [*bench.commands["waygate"], "history", "list", *words, "--json", "--data-dir", str(data)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, cwd=ROOT / "target")
    if done.returncode != 0 or "calls" not in json.loads(done.stdout):
        raise CannotMeasure(f"history ends with {done.returncode}: {done.stderr[-300:]}")
    return (time.monotonic() - began) * 1e3


def payload(bench):
    with bench.server("waygate", {"WAYGATE_BODY_MAX_BYTES": str(20 * MIB)}, data="data") as server:
        asked = {}
        for size in BYTES_AT:
            message = MESSAGE.ljust(size, "x")
            body = body_of("tools/call", {"name": "echo", "arguments": {"message": message}})
            asked[size] = (server, {"body": body, "connections": 4})
        runs = run_by_turns(bench, asked)
    moved = [[at, *(value * at * 2 / MIB for value in rest)] for at, *rest in of_runs(runs, "rps")]
    each = [[at, *(value * 1024 / at for value in rest)] for at, *rest in of_runs(runs, "cpu_us")]
    return [curve("Bytes there and back by payload", "MiB/s", moved=moved),
            curve("Cost of a KiB by payload", "us of cpu a KiB", cpu=each)]


def keys(bench):
    """Callers who show one key after another, of all there are; what each and all together do is counted."""
    with contextlib.ExitStack() as stack:
        servers = {}
        for count in KEYS_AT:
            folder = f"keys-{count}"
            with bench.closed(folder):
                pass  # It makes the database, and one key.
            keys = fill_keys(Path(bench.folder) / folder / "data/waygate.db", count)
            server = Server(f"keys-{count}", [*bench.commands["waygate"], "--data-dir", str(Path(bench.folder) / folder)], bench.folder,
                            LIMITED)
            server.answers = lambda server=server, key=keys[0]: is_open(server, key)
            servers[count] = (stack.enter_context(server), {"keys": keys})
        runs = run_by_turns(bench, servers)
    return [*costs(runs, "Cost of a call by keys"), curve("Memory by keys", "MB", memory=of_runs(runs, "rss_mb"))]


LIMITED = {"WAYGATE_LIMITS_REQUESTS_PER_MINUTE": "100000000"}


def is_open(server, key):
    status, _, text = ask(server.port, body=CALL, headers=CALL_HEADERS | {"Authorization": f"Bearer {key}"})
    return status == 200 and MESSAGE in text


def fill_keys(database, count):
    """So many keys like the one that is there, which goes; written by SQLite itself, since to make them one by one takes long."""
    with contextlib.closing(sqlite3.connect(database)) as store:
        names = [row[1] for row in store.execute("PRAGMA table_info(api_keys)") if row[1] != "id"]
        pattern = dict(zip(names, store.execute(f"SELECT {', '.join(names)} FROM api_keys").fetchone()))
        store.execute("DELETE FROM api_keys")
        made = [make_key() for _ in range(count)]
        rows = [pattern | {"name": f"k{n}", "prefix": pattern["prefix"][:-8] + name, "hash": hashlib.sha256(key.encode()).hexdigest()}
                for n, (name, key) in enumerate(made)]
        store.executemany(f"INSERT INTO api_keys ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})", rows)
        store.commit()
    return [key for _, key in made]


def make_key():
    """The letters that name a key, and the key, as Waygate makes them."""
    secret = secrets.token_bytes(32)
    name = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(8))
    total = hashlib.sha256(b"waygate key\0" + name.encode() + secret).digest()[:4]
    return name, f"wg_{name}_{base64.urlsafe_b64encode(secret + total).rstrip(b'=').decode()}"


# Name, heading, what runs across, how, and what is to be said of it.
CURVES = {
    "connections": ("Connections", "connections", connections,
                    "One worker polls all of them. Up to 16, calls that are ready at once share its waking up, and a group of the history; "
                    "beyond, what belongs to each connection falls out of the processor's cache."),
    "tools": ("Tools", "tools on offer", tools,
              "A tool is found by its name in a table, and a page lies ready: neither asks how many there are. Of ten, a page has ten. A "
              "tool takes 17 KB of memory: its description, its schema, and what that is compiled to."),
    "plugins": ("Plugins", "plugins", plugins, "Each has an actor and a pool of its own; a call meets one of them."),
    "sessions": ("Sessions", "sessions of 2025-11-25", sessions, "A session without a stream is an entry of a table."),
    "history": ("History", "rows", history,
                "Rows are appended, and the indices that questions need grow by the logarithm of their number. Filters that each fit many "
                "rows, and a client, of which SQLite has no index, are looked for among the rows: "
                "[operations.md](operations.md) says which do."),
    "payload": ("Payload", "bytes of the message", payload,
                "A small call costs what HTTP costs; a large one what its bytes cost, which are read once and copied out once. What "
                "the history keeps of them, a kilobyte, is looked through for secrets, with 16 KB behind it: from there on a KiB more "
                "is cheap. Beyond a MiB a message does not fit the processor's cache. An answer is one JSON text, so nothing of it can be "
                "streamed. Four connections, at each size."),
    "keys": ("Keys", "keys", keys,
             "Each call shows the next one of all. A key is found by its hash in a table, whatever their number. But the rows of a group in "
             "the history are of as many callers, then: those of one caller are bound to their statement with what they have in common, and "
             "stand together in the index of callers. Whoever makes or revokes a key has all of them read again, beside the calls."),
}


def said(point):
    """A point in a table: its median, with the least and the most where there was more than one run."""
    _, middle, least, most = point
    return plots.short(middle) + (f" ({plots.short(least)}–{plots.short(most)})" if least < most else "")


def tell(kept, picture, table):
    if not kept:
        return "## Growth\n\nNot measured on this machine: `scripts/bench --growth`.\n\n"
    text = "## Growth\n\nBars at a point are the least and the most of its runs.\n\n"
    for name, row in kept.items():
        heading, across, _, says = CURVES[name]
        text += f"### {heading}\n\n{says}\n\n"
        for number, shown in enumerate(row["figures"]):
            svg = plots.curves(shown["title"], across, shown["up"], shown["series"])
            text += picture(f"growth-{name}-{number}", svg, shown["title"])
            series = shown["series"]
            points = [[f"{at[0]:,}", *(said(own[n]) for own in series.values())] for n, at in
                      enumerate(next(iter(series.values())))]
            text += table([across, *(f"{own}, {shown['up']}" for own in series)], points)
        text += f"{row['rounds']} rounds of {row['seconds']} s, {row['taken']}, at {row['commit']}: "
        text += f"`scripts/bench --growth --rows {name}`\n\n"
    return text
