"""What the way through Waygate to servers behind it costs."""

import asyncio
import contextlib
import json
import os
import re
import statistics
import threading
import time

from benchmarks.building import PROXY_CONNECTIONS, build_gateway, find_mcp_proxy
from benchmarks.load import figures_of, ratio_of, run_by_turns
from benchmarks.place import CannotMeasure, LOAD_CPU, WAIT_SECONDS
from benchmarks.processes import pss_kb_of, tree_of
from benchmarks.servers import Gateway, Hanging, Proxy, Server, at_url, move_to_load, on_pipes
from benchmarks.wire import CALL, CALL_HEADERS, MESSAGE, ask, body_of, headers_of, open_session

# How long each call of the slow neighbour takes, and how many are in it and wait for it: what its file says.
HANG_SECONDS, HANG_RUNNING, HANG_WAITING = 10, 64, 256
CATALOG_PLUGINS, CATALOG_TOOLS = 100, 20
CATALOG_LISTS, CATALOG_RELOADS = 500, 7
# Threads that started the programs end when they had nothing to do for ten seconds; until then it is not at rest.
REST_SECONDS = 15


def measure_gateway(bench):
    """The same call through Waygate and through the floor of a hop, to one and the same server, which shares the
    processor of the load: so it is the gateway's processor that is the narrow place."""
    peers = build_gateway(bench)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Server("upstream", [str(peers / "upstream")], bench.folder, cpu=LOAD_CPU))
        url = f"http://127.0.0.1:{upstream.port}/mcp"
        hop = Server("hop", [str(peers / "gateway-floor"), "--upstream", url], bench.folder)
        servers = {
            "gateway": (stack.enter_context(Gateway("gateway", {"up": at_url(url)}, bench.folder, "/mcp/up")), {}),
            "hop": (stack.enter_context(hop), {}),
        }
        runs = run_by_turns(bench, servers)
    ratios = {"gateway_to_hop": ratio_of(runs, "gateway", "hop", "rps"),
              "gateway_cpu_to_hop": ratio_of(runs, "gateway", "hop", "cpu_us")}
    return {"waygate": figures_of(runs) | ratios}


def measure_gateway_stdio(bench):
    """Calls to one server on pipes that all connections share, of either revision; it shares the processor of the load."""
    program = build_gateway(bench) / "stdio"
    with contextlib.ExitStack() as stack:
        servers = {}
        for era, words in (("legacy", ()), ("modern", ("--modern",))):
            plugins = {"up": on_pipes(program, *words)}
            server = stack.enter_context(Gateway(f"stdio-{era}", plugins, bench.folder, "/mcp/up"))
            move_to_load(server, program)
            servers[era] = (server, {})
        runs = run_by_turns(bench, servers)
    return {"waygate": figures_of(runs)}


@contextlib.contextmanager
def hanging_calls(gateway, plugin):
    """Keeps the plugin and its queue full; whose call ends makes another."""
    headers = "".join(f"{key}: {value}\r\n" for key, value in CALL_HEADERS.items())
    head = f"POST /mcp/{plugin} HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\n{headers}Content-Length: {len(CALL)}\r\n\r\n"
    done = threading.Event()

    async def call_again():
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(f"{head}{CALL}".encode())
            try:
                answer = await reader.read(4096)
            finally:
                writer.close()
            if answer and b" 200 " not in answer.split(b"\r\n", 1)[0]:
                await asyncio.sleep(1)

    async def call_all():
        calls = [asyncio.create_task(call_again()) for _ in range(HANG_RUNNING + HANG_WAITING)]
        while not done.is_set():
            await asyncio.sleep(0.05)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def holds(running, queued):
        shown = gateway.show(f"/plugins/{plugin}")
        return shown["running"] == running and shown["queued"] == queued

    callers = threading.Thread(target=lambda: asyncio.run(call_all()))
    callers.start()
    try:
        gateway.wait_until("the slow plugin is full", lambda: holds(HANG_RUNNING, HANG_WAITING))
        yield
        if not holds(HANG_RUNNING, HANG_WAITING):
            raise CannotMeasure(f"the slow plugin did not stay full: {gateway.show(f'/plugins/{plugin}')}")
    finally:
        done.set()
        callers.join()
    gateway.wait_until("the slow plugin is empty", lambda: holds(0, 0))


def measure_neighbour(bench):
    """Calls of one plugin, by turns while another hangs on all of its calls with a full queue, and while it rests."""
    peers = build_gateway(bench)
    more = (f"concurrency = {HANG_RUNNING}\nqueue_max = {HANG_WAITING}\ntimeout_seconds = 600\n"
            "breaker = { failures = 1000 }\n")
    with contextlib.ExitStack() as stack:
        program = str(peers / "upstream")
        quick = stack.enter_context(Server("quick", [program], bench.folder, cpu=LOAD_CPU))
        slow = [program, "--hang-seconds", str(HANG_SECONDS)]
        slow = stack.enter_context(Hanging("slow", slow, bench.folder, cpu=LOAD_CPU))
        urls = {server.name: f"http://127.0.0.1:{server.port}/mcp" for server in (quick, slow)}
        plugins = {"slow": at_url(urls["slow"], more), "quick": at_url(urls["quick"])}
        gateway = stack.enter_context(Gateway("neighbours", plugins, bench.folder, "/mcp/quick"))
        gateway.wait_until("the slow plugin is ready", lambda: gateway.show("/plugins/slow")["state"] == "ready")
        size = bench.load.warm_up(gateway)
        runs = {"alone": [], "beside": []}
        for turn in range(bench.rounds):
            for way in runs if turn % 2 == 0 else reversed(runs):
                with hanging_calls(gateway, "slow") if way == "beside" else contextlib.nullcontext():
                    runs[way].append(bench.load.run_like(size, gateway, bench.seconds))
    return {"waygate": figures_of(runs) | {"p99_moves": ratio_of(runs, "beside", "alone", "p99_ms")}}


def sum_and_count(gateway, method):
    """Seconds that all requests of a method took in Waygate, and how many there were."""
    _, _, text = ask(gateway.port, "/metrics")
    def find(what):
        found = re.search(rf'^waygate_response_time_seconds_{what}{{method="{method}"}} (\S+)', text, re.MULTILINE)
        return float(found[1]) if found else 0.0
    return find("sum"), find("count")


def measure_list(bench, gateway):
    """The first page of all tools: in Waygate by its own clock, and at one client."""
    body, headers = body_of("tools/list", {}), headers_of("tools/list")
    status, _, text = ask(gateway.port, "/mcp", body, headers)
    if status != 200 or "nextCursor" not in json.loads(text)["result"]:
        raise CannotMeasure(f"the first page of tools is {status}: {text[:300]}")
    seconds, count = sum_and_count(gateway, "tools/list")
    for _ in range(CATALOG_LISTS):
        ask(gateway.port, "/mcp", body, headers)
    after, counted = sum_and_count(gateway, "tools/list")
    if counted - count < CATALOG_LISTS:
        raise CannotMeasure(f"{counted - count} of {CATALOG_LISTS} lists were counted")
    seen = bench.load.run(gateway, bench.seconds, body, headers, connections=1)
    return {"list_server_us": (after - seconds) / (counted - count) * 1e6, "list_p50_ms": seen["p50_ms"],
            "list_bytes": seen["answer_bytes"]}


def measure_reloads(gateway, file_of):
    """How long Waygate says that it took to reload one plugin whose file changed."""
    took, name = [], "plugin-050"
    for turn in range(CATALOG_RELOADS):
        gateway.describe(name, file_of(name) + f"concurrency = {10 + turn}\n")
        status, _, text = ask(gateway.port, "/plugins/reload", "", seconds=WAIT_SECONDS)
        report = json.loads(text)
        if status != 200 or report["failed"]:
            raise CannotMeasure(f"the reload answers {status}: {text[:300]}")
        # The watched folder may have been quicker, and then there was nothing left to do.
        if report["changed"] == [name]:
            took.append(report["tookMs"])
    if not took:
        raise CannotMeasure("no reload saw that a file had changed")
    return {"reload_ms": statistics.median(took), "reload_ms_max": max(took)}


def measure_catalog(bench):
    """A hundred plugins with two thousand tools, on HTTP and, for the memory, on pipes."""
    peers = build_gateway(bench)
    names = [f"plugin-{number:03}" for number in range(CATALOG_PLUGINS)]
    tools = ("--tools", str(CATALOG_TOOLS))

    def is_whole(gateway):
        plugins = [plugin for plugin in gateway.show("/plugins")["plugins"] if plugin["name"] in names]
        return [(plugin["state"], plugin["toolCount"]) for plugin in plugins] == [("ready", CATALOG_TOOLS)] * len(names)

    def house(name, file_of):
        gateway = Gateway(name, {name: file_of(name) for name in names}, bench.folder, f"/mcp/{names[0]}")
        stack.enter_context(gateway)
        gateway.wait_until("all plugins are ready", lambda: is_whole(gateway))
        time.sleep(REST_SECONDS)
        return gateway

    with contextlib.ExitStack() as stack:
        upstream = Server("many", [str(peers / "upstream"), *tools], bench.folder, cpu=LOAD_CPU)
        stack.enter_context(upstream)
        file_of = lambda name: at_url(f"http://127.0.0.1:{upstream.port}/mcp/{name}")
        gateway = house("catalog-http", file_of)
        found = {"http_rss_mb": gateway.rss_kb() / 1024} | measure_list(bench, gateway) | measure_reloads(gateway, file_of)
    with contextlib.ExitStack() as stack:
        program = peers / "stdio"
        gateway = house("catalog-stdio", lambda name: on_pipes(program, *tools))
        guards = [pid for pid in tree_of(gateway.process.pid)[1:] if os.readlink(f"/proc/{pid}/exe") != os.path.realpath(program)]
        found |= {"stdio_rss_mb": gateway.rss_kb() / 1024, "guards_pss_mb": sum(map(pss_kb_of, guards)) / 1024}
        found |= {f"stdio_{key}": value for key, value in measure_reloads(gateway, lambda name: on_pipes(program, *tools)).items()}
    return {"waygate": found}


def measure_proxies(bench):
    """The same call through Waygate and through mcp-proxy, to the same server, on HTTP and on pipes, in the same words:
    those of a session, for it knows no others."""
    peers, proxy = build_gateway(bench), find_mcp_proxy(bench)
    program = peers / "stdio"
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                       "params": {"name": "echo", "arguments": {"message": MESSAGE}}}, separators=(",", ":"))
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Server("upstream", [str(peers / "upstream")], bench.folder, cpu=LOAD_CPU))
        url = f"http://127.0.0.1:{upstream.port}/mcp"
        chained = [str(proxy), "--transport", "streamablehttp", "--log-level", "ERROR", url]
        found = [
            Gateway("http", {"up": at_url(url)}, bench.folder, "/mcp/up"),
            Proxy("proxy_http", proxy, chained, bench.folder),
            Gateway("stdio", {"up": on_pipes(program)}, bench.folder, "/mcp/up"),
            Proxy("proxy_stdio", proxy, [str(program)], bench.folder),
        ]
        servers = {}
        for server in found:
            stack.enter_context(server)
            asked = {"body": call, "headers": open_session(server), "connections": PROXY_CONNECTIONS, "numbered": True}
            servers[server.name] = (server, asked)
            if server.name.endswith("stdio"):
                move_to_load(server, program)
        runs = run_by_turns(bench, servers)
    ratios = {f"{way}_to_proxy": ratio_of(runs, way, f"proxy_{way}", "rps") for way in ("http", "stdio")}
    return {"waygate": figures_of(runs) | ratios}
