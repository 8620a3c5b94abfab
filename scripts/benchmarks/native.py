"""What Waygate's own server costs: throughput, start, streams, sessions, restarts, keys."""

import asyncio
import contextlib
import json
import resource
import statistics
import time

from benchmarks.load import figures_of, medians, ratio_of, run_by_turns
from benchmarks.place import CONNECTIONS, CannotMeasure, WAIT_SECONDS
from benchmarks.wire import (
    CALL,
    CALL_HEADERS,
    LISTEN,
    MESSAGE,
    STREAMED_CALL,
    ask,
    check_echo,
    headers_of,
    open_session,
)

STREAMS = 10_000
SESSIONS = 10_000
STARTS = 5
CRASHES = 3


def measure_throughput(bench):
    """Rows of each server: medians, and the ratio to each peer by round."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(bench.server(name)) for name in bench.commands]
        sizes = {}
        for server in servers:
            check_echo(server.name, server.port)
            sizes[server.name] = bench.load.warm_up(server)
        runs = {server.name: [] for server in servers}
        for turn in range(bench.rounds):
            for server in servers if turn % 2 == 0 else reversed(servers):
                runs[server.name].append(bench.load.run_like(sizes[server.name], server, bench.seconds))
        for server in servers:
            check_echo(server.name, server.port)
    result = {}
    for name, own in runs.items():
        rates = [run["rps"] for run in own]
        result[name] = medians(own) | {"rps_min": min(rates), "rps_max": max(rates)}
        for base in ("rmcp", "floor"):
            if base in runs:
                ratios = [run["rps"] / other["rps"] for run, other in zip(own, runs[base])]
                result[name][f"to_{base}"] = statistics.median(ratios)
                result[name][f"to_{base}_by_round"] = ratios
    return result


def measure_start(bench):
    """Starts on a data folder that exists, and memory before any load."""
    result = {}
    for name in bench.commands:
        with bench.server(name):
            pass
        calls, memory = [], []
        for _ in range(STARTS):
            with bench.server(name) as server:
                calls.append(server.first_call_seconds * 1e3)
                time.sleep(1)
                memory.append(server.rss_kb() / 1024)
        result[name] = {"first_call_ms": statistics.median(calls), "idle_rss_mb": statistics.median(memory)}
    return result


async def hold_streams(server, count, settle_seconds=3):
    """Opens `count` listens and gives the memory that each holds, in KiB."""
    head = "".join(f"{key}: {value}\r\n" for key, value in headers_of("subscriptions/listen").items())
    request = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{head}Content-Length: {len(LISTEN)}\r\n\r\n{LISTEN}"
    ).encode()
    gate = asyncio.Semaphore(200)

    async def open_one():
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request)
            seen = b""
            while b"subscriptions/acknowledged" not in seen:
                part = await asyncio.wait_for(reader.read(4096), WAIT_SECONDS)
                seen += part
                if not part or len(seen) > 16_384:
                    raise CannotMeasure(f"{server.name} does not acknowledge a listen: {seen[:300]!r}")
            return writer

    before = server.rss_kb()
    writers = await asyncio.gather(*(open_one() for _ in range(count)))
    await asyncio.sleep(settle_seconds)
    held = server.rss_kb()
    for writer in writers:
        writer.close()
    return (held - before) / count


def measure_listen(bench):
    needed = STREAMS + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
        except (ValueError, OSError):
            raise CannotMeasure(f"{needed} open files are needed and {hard} allowed: raise `ulimit -n`") from None
    with bench.server("waygate") as server:
        bench.load.run(server, 1)
        return {"waygate": {"stream_kb": asyncio.run(hold_streams(server, STREAMS))}}


def measure_stream(bench):
    """The same call with and without a progress token, in turns."""
    result = {}
    with bench.server("waygate") as server:
        check_echo("waygate", server.port, STREAMED_CALL, "text/event-stream")
        sizes = {body: bench.load.warm_up(server, body) for body in (CALL, STREAMED_CALL)}
        for connections in (CONNECTIONS, 1):
            plain, streamed = [], []
            for turn in range(bench.rounds):
                order = [(CALL, plain), (STREAMED_CALL, streamed)]
                for body, runs in order if turn % 2 == 0 else reversed(order):
                    seen = bench.load.run_like(sizes[body], server, bench.seconds, body=body, connections=connections)
                    runs.append(seen["p50_ms"])
            key = f"at_{connections}"
            result[f"plain_p50_ms_{key}"] = statistics.median(plain)
            result[f"streamed_p50_ms_{key}"] = statistics.median(streamed)
            result[f"streamed_to_plain_{key}"] = statistics.median(s / p for s, p in zip(streamed, plain))
    return {"waygate": result}


def measure_restart(bench):
    """Crashes each actor a few times and reads how long its restart took."""
    times = {}
    with bench.server("waygate", env={"WAYGATE_ENV": "test"}) as server:
        actors = [actor["name"] for actor in diagnose_actors(server)]
        if not actors:
            raise CannotMeasure("/diagnostics/actors names no actor")
        for name in actors:
            times[name] = [crash(server, name) for _ in range(CRASHES)]
        check_echo("waygate", server.port)
    every = [us for own in times.values() for us in own]
    by_actor = {name: statistics.median(own) for name, own in times.items()}
    return {"waygate": {"restart_us": statistics.median(every), "restart_us_max": max(every), "by_actor": by_actor}}


def diagnose_actors(server):
    status, _, text = ask(server.port, "/diagnostics/actors")
    if status != 200:
        raise CannotMeasure(f"/diagnostics/actors answers {status}: {text[:300]}")
    return json.loads(text)["actors"]


def crash(server, name):
    """Microseconds from one panic of the actor to its restart."""

    def look():
        return next((actor for actor in diagnose_actors(server) if actor["name"] == name), {})

    restarts = look().get("restarts", 0)
    status, _, text = ask(server.port, f"/diagnostics/actors/{name}/crash", body="")
    if status >= 300:
        raise CannotMeasure(f"the actor {name} cannot be crashed: {status} {text[:300]}")
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        actor = look()
        if actor.get("restarts", 0) > restarts:
            return actor["lastPanic"]["restartMicroseconds"]
        time.sleep(0.01)
    raise CannotMeasure(f"the actor {name} did not come back within {WAIT_SECONDS} s")


def measure_session(bench):
    """The same call in a session and without one, by turns on one server; then the memory of sessions that do nothing."""
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                       "params": {"name": "echo", "arguments": {"message": MESSAGE}}})
    with bench.server("waygate") as server:
        ways = {"stateless": (CALL, CALL_HEADERS), "session": (call, open_session(server))}
        sizes = {way: bench.load.warm_up(server, *request) for way, request in ways.items()}
        runs = {way: [] for way in ways}
        for turn in range(bench.rounds):
            for way in ways if turn % 2 == 0 else reversed(ways):
                body, headers = ways[way]
                runs[way].append(bench.load.run_like(sizes[way], server, bench.seconds, body=body, headers=headers))
        ratios = [own["rps"] / other["rps"] for own, other in zip(runs["session"], runs["stateless"])]
        before = server.rss_kb()
        for _ in range(SESSIONS):
            open_session(server)
        session_kb = (server.rss_kb() - before) / SESSIONS
    return {"waygate": {"session_to_stateless": statistics.median(ratios), "session_kb": session_kb}}


def measure_keys(bench):
    """The echo for a caller with a key, whose rate and calls at once are counted, as are those of all together; and the echo of
    a server without keys and limits."""
    with contextlib.ExitStack() as stack:
        guarded = stack.enter_context(bench.closed())
        servers = {"open": (stack.enter_context(bench.server("waygate")), {}), "guarded": (guarded, guarded.asked)}
        runs = run_by_turns(bench, servers)
    ratios = {"guarded_to_open": ratio_of(runs, "guarded", "open", "rps"),
              "guarded_cpu_to_open": ratio_of(runs, "guarded", "open", "cpu_us")}
    return {"waygate": figures_of(runs) | ratios}
