"""docs/benchmarks.md and its pictures, of the figures that lie on the shelf. Must not know how they were measured."""

import os
import platform
import re
import subprocess
from pathlib import Path

from benchmarks import growth, peers, plots, shelf, soak
from benchmarks.building import PROXY
from benchmarks.matrix import ROWS
from benchmarks.measures import MEASURES
from benchmarks.place import ROOT
from benchmarks.telling import BARS, is_met

PAGE = ROOT / "docs/benchmarks.md"
PICTURES = ROOT / "docs/benchmarks"
# Whose core was less busy could have done more.
FULL = 0.95
# Measures of Waygate alone that belong to the matrix.
OWN = ("listen", "session", "keys", "strict", "restart")
# What a bar of the project asks of a row: of whom, which figure, how much, and whether more is better.
GOALS = {
    "echo": [("waygate", "cpu_us", 17, False), ("floor", "ratio", 0.55, True), ("rmcp", "ratio", 1.8, True), ("fastmcp", "ratio", 50, True),
             ("typescript", "ratio", 15, True)],
    "list-2000": [("floor", "ratio", 0.7, True)],
    "session": [("modern", "ratio", 0.9, True)],
    "workers": [("one", "cpu_ratio", 1.15, False)],
    "gateway": [("hop", "ratio", 0.85, True), ("hop", "cpu_ratio", 1.25, False)],
    # 2.5 times what is published of agentgateway.
    "direct": [("direct", "ratio", 0.5, True)],
    "gateways": [("mcp-proxy", "ratio", 40, True), ("contextforge", "ratio", 500, True)],
}

# Why a bar is missed, by what the table of bars calls it, and up to which value that is the reason; a miss without one, or by more
# than it tells of, ends the run with 3.
WHY = {
    "Echo: cpu a call": (40,
        "the bar was set on a machine whose bare floor takes 7.5 us a call, and here that takes 18: by the ratio of both it would be 14 us "
        "there."),
    "Cold start": (45,
        "a bare actix-web server takes a third as long in the same run; on the machine that the bar was set on that one takes half of "
        "what it takes here."),
    "Memory at rest": (22,
        "10.5 MB are code (23 MB are there; what a start runs lies in front, 5 MB of it), 7.3 MB what is allocated, the rest tables, "
        "addresses that the linker fills in, and the C library."),
    "The program": (32,
        "23.5 MB of it are code: 6.2 of Waygate's own and what is made generic for it, 1.9 of JSON Schema, some 3 of OpenSSL, "
        "which PostgreSQL's client needs, 1.1 of SQLite, 0.9 of Tokio. 3.5 MB are the tables for unwinding, without which a "
        "panic would end the server instead of an actor."),
    "List of 2,000 tools: calls a second of processor time, of floor": (0.65,
        "a page has 1.4 MB. Of 100 parts of the server's time (`perf`) 75 are the kernel's, which sends it, 20 copies in memory, 5 Waygate's."),
    "Gateway, HTTP: calls a second, of hop": (0.6,
        "it is a caller's with a key and limits. Without these 68 us a call were measured earlier on this machine, and 0.86 of a hop that was linked "
        "less well then, and took 56 us where it takes 51 now. What a key costs is told below."),
    "Gateway, HTTP: cpu a call, of hop": (1.65, "the same."),
    "With key and limits, of without": (0.82,
        "runs of 5 rounds gave 0.84, 0.87 and 0.89. A key costs the worker some 5,000 instructions of 63,000 a call beside its hash (callgrind: the "
        "headers, the table of keys, the clock and the counts of the limits), and the history's thread a place in one index more, since "
        "the row has a caller."),
    "Strict, of batched": (0.22,
        "each call waits for two commits, of its intent and of its outcome, and is two rows. With 64 connections a commit has 28 rows, and costs "
        "the history's thread 1 ms, of which (`perf`) 85 of 100 parts are the kernel's, which writes and flushes the pages; a flush of 4 KB "
        "takes 0.73 ms on this disk (median of 300 `fdatasync`)."),
}

HEAD = """# Benchmarks

<!-- Written by `scripts/bench --matrix`; what is changed here by hand is lost with the next run. -->

What Waygate does beside the bare floor and beside what people use instead. Everything of Waygate is switched on: each call
shows a key, whose calls a minute and at once are counted against limits, as are those of all together; the history is written,
schemas are checked, metrics are counted. The floors, rmcp and nginx do none of that. Starts, the soak, measures of Waygate alone and growth
are of a server that needs no key, but where keys are what is measured. A faster machine moves all of them alike: look at the ratios.

- Each server has one worker and one processor for itself, at its turn; the load, and the servers behind gateways, have the
  other one. `busy` is how much of its core a server used: where it is well below 1 the load could give no more, and
  the processor's time is the figure to compare.
- All servers of a table get the same bytes, but where a table compares two ways of asking, or servers that each have a session,
  or a token, of their own. Every answer of a first run is looked into.
- Waygate is built as it is shipped: by `scripts/release`, with what was counted of itself at work, and with mimalloc. The floors
  and rmcp are built with the same optimisation and link, without such counts, and with the allocator that they come with.
  [performance.md](performance.md) says what that is worth.
- The rounds are interleaved (A B C, then C B A). A figure is the median over rounds, in brackets the least and the most. A
  ratio is the median of the ratios within each round.
- `cpu` is what the scheduler counted for the server's processes, by answered call. It is the figure to trust where rates
  are noisy. For gateways it is the gateway's own, without the server behind.

"""


def said(command, pattern=r"(\S.*)"):
    """What a program says of its version."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "not there"
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1].strip() if found else "not told"


def rmcp():
    """The Rust SDK of the peer of ours."""
    locked = (ROOT / "benches/rmcp-echo/Cargo.lock").read_text()
    return "rmcp " + re.search(r'name = "rmcp"\nversion = "(.*?)"', locked)[1]


def machine():
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / (1 << 20)
    system = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    nginx = peers.find_nginx()
    lines = [
        f"- Machine: {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} processors, {memory:.0f} GiB, "
        f"Linux {platform.release()}, {system[1] if system else 'an unnamed system'}",
        f"- {said(['rustc', '--version'])}; Python {platform.python_version()}; Node.js {said(['node', '--version'])}; "
        f"nginx {said([nginx, '-v'], r'nginx/(.+)') if nginx else 'not there'}; wrk {said(['wrk', '-v'], r'wrk (.+?) ')}",
        "- Where `--plain` stands, Waygate is built by `cargo build --release`, as the others are",
        f"- Beside it: {', '.join(f'`{pinned}`' for pinned in [rmcp(), *peers.versions(), PROXY])}",
    ]
    return "\n".join(lines) + "\n\n"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "|".join("---" if not n else "--:" for n in range(len(heads))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n\n"


def picture(name, svg, says):
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(svg)
    return f"![{says}](benchmarks/{name}.svg)\n\n"


def how(kept, words):
    words += " --plain" * kept["plain"]
    return f"{kept['rounds']} rounds of {kept['seconds']} s, {kept['taken']}, at {kept['commit']}: `{words}`\n\n"


def tell_row(name, kept):
    heading, what, _ = ROWS[name]
    figures = kept["figures"]
    text = f"### {heading}\n\n{what[0].upper()}{what[1:]}.\n\n"
    if name == "start":
        seen = {who: tuple(row[key] for key in ("first_call_ms", "first_call_ms_min", "first_call_ms_max"))
                for who, row in figures.items()}
        text += picture(name, plots.bars(heading, "ms to the first answered call", seen), heading)
        rows = [[who, f"{number(row['first_call_ms'])} ({number(row['first_call_ms_min'])}–{number(row['first_call_ms_max'])})",
                 number(row["idle_rss_mb"])] for who, row in figures.items()]
        return text + table(["server", "ms to the first answered call", "MB at rest"], rows) + how(kept, command(name))
    first = next(iter(figures))
    seen = {who: (row["rps"], row["rps_min"], row["rps_max"]) for who, row in figures.items()}
    text += picture(name, plots.bars(heading, "calls a second", seen), heading)
    rows = []
    for who, row in figures.items():
        ratio = "" if who == first else f"{number(row['ratio'])} ({number(row['ratio_min'])}–{number(row['ratio_max'])})"
        rows.append([who, f"{number(row['rps'])} ({number(row['rps_min'])}–{number(row['rps_max'])})", ratio, number(row["cpu_us"]),
                     "" if who == first else number(row["cpu_ratio"]), f"{row['busy']:.2f}", number(row["p50_ms"]),
                     number(row["p99_ms"]), number(row["rss_mb"])])
    heads = ["server", "calls/s", f"{first} is", "cpu us", f"{first}'s is", "busy", "p50 ms", "p99 ms", "RSS MB"]
    text += table(heads, rows)
    if (dropped := figures[first].get("dropped", 0)) > 0:
        text += f"Of {first}'s calls {dropped:.2%} have no row in the history, which found no room: a gap row tells how many.\n\n"
    return text + how(kept, command(name))


def command(name):
    return f"scripts/bench --matrix --rows {name}"


def goals(rows):
    """What was asked of the rows, and whether it is so."""
    told = []
    for name, asked in GOALS.items():
        for who, key, goal, more in asked if name in rows else []:
            row = rows[name]["figures"].get(who, {})
            if key in row:
                told += goal_of(ROWS[name][0], who, row, (key, goal, more))
    if "streamed" in rows:
        figures = rows["streamed"]["figures"]
        told.append(("Streamed call: p50, of a plain one", figures["streamed"]["p50_ms"] / figures["plain"]["p50_ms"], "x", 3, False))
    if "start" in rows:
        ours = rows["start"]["figures"]["waygate"]
        told += [("Cold start", ours["first_call_ms"], "ms", 25, False), ("Memory at rest", ours["idle_rss_mb"], "MB", 20, False)]
        told += [("The program", ours["binary_mb"], "MB", 30, False)] if "binary_mb" in ours else []
    return told


def goal_of(heading, who, row, asked):
    """One goal; by the processor's time once more where the other one's core was not full, and so its rate not all it can do."""
    key, goal, more = asked
    if key == "cpu_us":
        return [(f"{heading}: cpu a call", row[key], "us", goal, more)]
    if key == "cpu_ratio":
        return [(f"{heading}: cpu a call, of {who}", row[key], "x", goal, more)]
    told = [(f"{heading}: calls a second, of {who}", row[key], "x", goal, more)]
    if row["busy"] < FULL:
        told.append((f"{heading}: calls a second of processor time, of {who}", 1 / row["cpu_ratio"], "x", goal, more))
    return told


def own_figures(measures):
    """Measures of Waygate alone, with their bars."""
    for measure, key, what, unit, bar, more in BARS:
        row = measures.get(measure, {}).get("figures", {}).get("waygate", {})
        if measure in OWN and key in row:
            yield what[0].upper() + what[1:], row[key], unit, bar, more


def tell_measures(measures):
    """How the measures of Waygate alone were taken."""
    return "".join(f"- {MEASURES[name][1]}: {how(kept, f'scripts/bench --matrix --rows {name}')[:-2]}\n" for name, kept in measures.items()) + "\n"


def verdict(value, goal, more):
    if goal is None:
        return "", ""
    return f"{'at least' if more else 'under'} {goal:g}", "met" if is_met(value, goal, more) else "**missed**"


def tell_bars(asked):
    """The table of bars with the reasons of those that are missed; and those without any."""
    told = [[what, f"{number(value)} {unit}".strip(), *verdict(value, goal, more)] for what, value, unit, goal, more in asked]
    text = table(["what", "measured", "bar", ""], told)
    missed = [(what, value, more) for what, value, _, goal, more in asked if goal is not None and not is_met(value, goal, more)]
    known = [what for what, value, more in missed if what in WHY and is_met(value, WHY[what][0], more)]
    if known:
        text += "Why those that are missed are, on the machine of these figures:\n\n"
        text += "".join(f"- {what}: {WHY[what][1]}\n" for what in known) + "\n"
    return text, [what for what, _, _ in missed if what not in known]


def behind(rows):
    """Where another one does more calls a second than Waygate, said first of all by ourselves."""
    lines = []
    for name, kept in rows.items():
        figures = kept["figures"]
        for who, row in figures.items() if "waygate" in figures else []:
            if row.get("ratio", 1) < 1:
                lines.append(f"- {ROWS[name][0]}: {row['ratio']:.2f} of the calls a second of {who}")
            if "first_call_ms" in row and row["first_call_ms"] < figures["waygate"]["first_call_ms"]:
                longer = figures["waygate"]["first_call_ms"] / row["first_call_ms"]
                lines.append(f"- {ROWS[name][0]}: {longer:.1f} times as long as {who}")
    return "\n".join(lines) + "\n\n" if lines else "Nowhere in the rows above.\n\n"


def write():
    """Writes the page; gives the bars that are missed without a word why."""
    rows, measures = shelf.take("row", ROWS), shelf.take("measure", OWN)
    text = HEAD + machine()
    text += "## Side by side\n\n" + "".join(tell_row(name, kept) for name, kept in rows.items())
    asked = [*goals(rows), *own_figures(measures)]
    bars, unexplained = tell_bars(asked)
    text += "## Against the bars\n\n" + bars + tell_measures(measures) if asked else ""
    text += "## Where Waygate is behind\n\n" + behind(rows)
    soaked = shelf.take("soak", ["soak"]).get("soak")
    unexplained += soak.missed(soaked)
    text += soak.tell(soaked, picture, table)
    text += growth.tell(shelf.take("growth", growth.CURVES), picture, table)
    missing = [name for name in ROWS if name not in rows]
    text += "## What was not measured\n\n"
    text += "- agentgateway and Go servers: they cannot be had from npm, PyPI, crates.io or Debian, where the others come from.\n"
    text += f"- Rows without figures of this machine: {', '.join(missing)}.\n" if missing else ""
    PAGE.write_text(text)
    return unexplained
