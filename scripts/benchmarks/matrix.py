"""The matrix: Waygate side by side with the floor and with what people would use instead, row by row.

The servers of a row are loaded by turns, with the same bytes, as all is that is compared. Must not know how a page is made
of it.
"""

import contextlib
import json
import statistics
import time
from pathlib import Path

from benchmarks import peers
from benchmarks.building import PROXY_CONNECTIONS, build_gateway, build_rmcp, find_mcp_proxy
from benchmarks.history import count_dropped
from benchmarks.load import medians, run_by_turns
from benchmarks.place import CONNECTIONS, CannotMeasure, LOAD_CPU, PROGRAMS, SERVER_CPU
from benchmarks.servers import ClosedGateway, Interpreted, Proxy, Server, at_url, move_to_load, on_pipes
from benchmarks.wire import (
    MESSAGE,
    STREAMED_CALL,
    ask,
    body_of,
    headers_of,
    legacy_call,
    open_session,
)

KIB = 1024
# Those with a tool of their own, beside Waygate.
NATIVE = ("floor", "rmcp", "fastmcp", "typescript")
# ContextForge answers some twenty calls a second: shorter runs would see too few of them.
SLOW_SECONDS = 5
# A page of a list may have so many entries.
PAGE = {"WAYGATE_MCP_PAGE_SIZE": "10000"}


def compare(bench, servers, **more):
    """Medians of each server over rounds, their spread, how busy its core was, and how much of it Waygate is, by round."""
    runs = run_by_turns(bench, servers, **more)
    ours = next(iter(runs))
    dropped = count_dropped(servers[ours][0])
    rows = {}
    for name, own in runs.items():
        rates = [run["rps"] for run in own]
        ratios = [mine["rps"] / run["rps"] for mine, run in zip(runs[ours], own)]
        costs = [mine["cpu_us"] / run["cpu_us"] for mine, run in zip(runs[ours], own)]
        rows[name] = medians(own) | {
            "rps_min": min(rates), "rps_max": max(rates), "ratio": statistics.median(ratios), "ratio_min": min(ratios),
            "ratio_max": max(ratios), "cpu_ratio": statistics.median(costs),
            "busy": statistics.median(run["rps"] * run["cpu_us"] / 1e6 for run in own),
        }
    # Of all calls that were made, near enough: those of the warming up are not counted here.
    rows[ours]["dropped"] = dropped / sum(run["requests"] for run in runs[ours])
    return rows


def native(bench, name):
    """A server with an echo, not started."""
    if name in bench.commands:
        return bench.server(name)
    return Interpreted(name, {"fastmcp": peers.fastmcp, "typescript": peers.typescript}[name](), bench.folder)


def echo(bench, size):
    """A call whose message has `size` bytes."""
    body = body_of("tools/call", {"name": "echo", "arguments": {"message": MESSAGE.ljust(size, "x")}})
    with contextlib.ExitStack() as stack:
        waygate = stack.enter_context(bench.closed())
        servers = {"waygate": waygate} | {name: stack.enter_context(native(bench, name)) for name in NATIVE}
        return compare(bench, {name: (server, waygate.asked | {"body": body}) for name, server in servers.items()})


def listing(bench, tools):
    """All tools on one page, against the floor that sends the very bytes."""
    behind = build_gateway(bench)
    asked = {"body": body_of("tools/list", {}), "sought": '"tools"'}
    with contextlib.ExitStack() as stack:
        program = [str(behind / "upstream"), "--tools", str(tools)]
        upstream = stack.enter_context(Server("upstream", program, bench.folder, cpu=LOAD_CPU))
        plugins = {"up": at_url(f"http://127.0.0.1:{upstream.port}/mcp")}
        waygate = stack.enter_context(ClosedGateway("waygate", plugins, bench.folder, "/mcp/up", PAGE))
        asked["headers"] = headers_of("tools/list") | waygate.key
        page = Path(bench.folder) / "page.json"
        page.write_text(ask(waygate.port, waygate.path, asked["body"], asked["headers"])[2])
        given = len(json.loads(page.read_text())["result"]["tools"])
        if given != tools:
            raise ValueError(f"a page of {tools} tools has {given}")
        floor = Server("floor", [*bench.commands["floor"], "--answer", str(page)], bench.folder)
        # It gives what it has to whoever asks: there is nothing to wait for but that it listens.
        floor.answers = lambda: ask(floor.port, body="{}")[0] == 200
        servers = {"waygate": waygate, "floor": stack.enter_context(floor)}
        return compare(bench, {name: (server, asked) for name, server in servers.items()})


def streamed(bench):
    """The same call with three notices of progress before its answer, and without."""
    with bench.closed() as server:
        answer = ask(server.port, body=STREAMED_CALL, headers=server.asked["headers"])[2]
        if answer.count("notifications/progress") != 3:
            raise CannotMeasure(f"a streamed call does not come with three notices of progress: {answer[:500]}")
        return compare(bench, {"streamed": (server, server.asked | {"body": STREAMED_CALL}), "plain": (server, server.asked)})


def sessions(bench):
    """The same call in a session of 2025-11-25, and without one."""
    with bench.closed() as server:
        in_session = legacy_call("echo", open_session(server, server.key))
        return compare(bench, {"session": (server, in_session), "modern": (server, server.asked)})


def workers(bench):
    """The same call with two workers and with one, both on all processors, which the load shares: look at what it costs."""
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, count in (("two", "2"), ("one", "1")):
            server = bench.closed(f"workers-{name}")
            server.name, server.cpu, server.command[-1] = name, {SERVER_CPU, LOAD_CPU}, count
            servers[name] = (stack.enter_context(server), server.asked)
        return compare(bench, servers)


def upstream_of(bench, stack):
    return stack.enter_context(Server("upstream", [str(build_gateway(bench) / "upstream")], bench.folder, cpu=LOAD_CPU))


def gateway(bench):
    """A hop to one server on HTTP: Waygate, the floor of a hop, nginx as a plain proxy."""
    behind = build_gateway(bench)
    with contextlib.ExitStack() as stack:
        upstream = upstream_of(bench, stack)
        url = f"http://127.0.0.1:{upstream.port}/mcp"
        waygate = ClosedGateway("waygate", {"up": at_url(url)}, bench.folder, "/mcp/up")
        found = {
            "waygate": waygate,
            "hop": Server("hop", [str(behind / "gateway-floor"), "--upstream", url], bench.folder),
            "nginx": peers.Nginx("nginx", upstream.port, bench.folder),
        }
        servers = {name: stack.enter_context(server) for name, server in found.items()}
        return compare(bench, {name: (server, waygate.asked) for name, server in servers.items()})


def direct(bench):
    """Through the gateway, and to the same server without it: all share all processors but the load, which stays on its own."""
    with contextlib.ExitStack() as stack:
        both = {SERVER_CPU, LOAD_CPU}
        behind = stack.enter_context(with_two_workers(Server("direct", [str(build_rmcp(bench))], bench.folder, cpu=both)))
        plugins = {"up": at_url(f"http://127.0.0.1:{behind.port}/mcp")}
        waygate = with_two_workers(ClosedGateway("waygate", plugins, bench.folder, "/mcp/up"))
        waygate.cpu = both
        stack.enter_context(waygate)
        return compare(bench, {"waygate": (waygate, waygate.asked), "direct": (behind, waygate.asked)})


def with_two_workers(server):
    server.command[-1] = "2"
    return server


def gateways(bench):
    """A hop to one server on HTTP in the words of 2025-11-25, which all of them speak; few connections, for those who are slow."""
    with contextlib.ExitStack() as stack:
        upstream = upstream_of(bench, stack)
        url = f"http://127.0.0.1:{upstream.port}/mcp"
        chained = [str(find_mcp_proxy(bench)), "--transport", "streamablehttp", "--log-level", "ERROR", url]
        found = [
            ClosedGateway("waygate", {"up": at_url(url)}, bench.folder, "/mcp/up"),
            Proxy("mcp-proxy", find_mcp_proxy(bench), chained, bench.folder),
            peers.ContextForge("contextforge", upstream.port, bench.folder),
        ]
        servers = {}
        for server in found:
            stack.enter_context(server)
            asked = server.asked if server.name == "contextforge" else in_a_session(server)
            servers[server.name] = (server, asked | {"connections": PROXY_CONNECTIONS, "numbered": True})
        return compare(bench, servers, seconds=SLOW_SECONDS)


def in_a_session(server):
    """A call in a session of its own, with a key where the server wants one."""
    return legacy_call("echo", open_session(server, getattr(server, "key", None)))


def pipes(bench):
    """A hop to one server on pipes that all callers share."""
    program = build_gateway(bench) / "stdio"
    with contextlib.ExitStack() as stack:
        found = [
            ClosedGateway("waygate", {"up": on_pipes(program)}, bench.folder, "/mcp/up"),
            Proxy("mcp-proxy", find_mcp_proxy(bench), [str(program)], bench.folder),
        ]
        servers = {}
        for server in found:
            stack.enter_context(server)
            move_to_load(server, program)
            servers[server.name] = (server, in_a_session(server) | {"connections": PROXY_CONNECTIONS, "numbered": True})
        return compare(bench, servers)


def start(server):
    """What one start takes, and memory a second later."""
    with server:
        time.sleep(1)
        return {"first_call_ms": server.first_call_seconds * 1e3, "idle_rss_mb": server.rss_kb() / KIB}


def starts_by_turns(makers, count):
    """Starts of each in turn, on data folders that exist: the first of each is not counted."""
    seen = {name: [] for name in makers}
    for turn in range(count + 1):
        for name in makers if turn % 2 == 0 else reversed(makers):
            seen[name].append(start(makers[name]()))
    return {name: spread_of(own[1:]) for name, own in seen.items()}


def starts(bench, slow_count=3):
    """From the start of the process to the first answered call, and memory at rest."""
    makers = {name: lambda name=name: native(bench, name) for name in ("waygate", *NATIVE)}
    rows = starts_by_turns(makers, bench.rounds)
    with contextlib.ExitStack() as stack:
        upstream = upstream_of(bench, stack)
        # The program was built with the server behind it, if it was not there.
        rows["waygate"]["binary_mb"] = (PROGRAMS / "waygate-mcp").stat().st_size / 1e6
        url = f"http://127.0.0.1:{upstream.port}/mcp"
        chained = [str(find_mcp_proxy(bench)), "--transport", "streamablehttp", "--log-level", "ERROR", url]
        slow = {
            "mcp-proxy": lambda: Proxy("mcp-proxy", find_mcp_proxy(bench), chained, bench.folder),
            "contextforge": lambda: peers.ContextForge("contextforge", upstream.port, bench.folder),
        }
        return rows | starts_by_turns(slow, slow_count)


def spread_of(starts):
    times = [start["first_call_ms"] for start in starts]
    return medians(starts) | {"first_call_ms_min": min(times), "first_call_ms_max": max(times)}


# Name, heading, what is measured, and how.
ROWS = {
    "echo": ("Echo", f"one call, {CONNECTIONS} connections", lambda bench: echo(bench, len(MESSAGE))),
    "echo-2k": ("Echo of 2 KB", f"a message of 2 KB there and back, {CONNECTIONS} connections", lambda bench: echo(bench, 2 * KIB)),
    "echo-256k": ("Echo of 256 KB", f"a message of 256 KB there and back, {CONNECTIONS} connections",
                  lambda bench: echo(bench, 256 * KIB)),
    "list-10": ("List of 10 tools", "`tools/list`, one page; the floor sends the same bytes", lambda bench: listing(bench, 10)),
    "list-200": ("List of 200 tools", "`tools/list`, one page; the floor sends the same bytes", lambda bench: listing(bench, 200)),
    "list-2000": ("List of 2,000 tools", "`tools/list`, one page; the floor sends the same bytes",
                  lambda bench: listing(bench, 2_000)),
    "streamed": ("Streamed call", "three notices of progress and the answer, against the answer alone", streamed),
    "session": ("Call in a session", "the same call in a session of 2025-11-25, against one of 2026-07-28", sessions),
    "workers": ("Two workers", f"one call, {CONNECTIONS} connections, two workers against one, on processors that the load shares",
                workers),
    "gateway": ("Gateway, HTTP", f"a hop to one server on HTTP, {CONNECTIONS} connections", gateway),
    "direct": ("Gateway and server", f"through the gateway to an rmcp server, and straight to that, {CONNECTIONS} connections; with two "
               "workers each, on processors that the load shares", direct),
    "gateways": ("Gateways, HTTP", f"the same in the words of 2025-11-25, {PROXY_CONNECTIONS} connections", gateways),
    "pipes": ("Gateways, pipes", f"a hop to one server on pipes, in the words of 2025-11-25, {PROXY_CONNECTIONS} connections", pipes),
    "start": ("Cold start", "from the start of the process to the first answered call, and memory at rest", starts),
}
