"""The table of measures, and what they share."""

from pathlib import Path

from benchmarks.building import PROXY, PROXY_CONNECTIONS
from benchmarks.gateway import (
    CATALOG_PLUGINS,
    CATALOG_TOOLS,
    measure_catalog,
    measure_gateway,
    measure_gateway_stdio,
    measure_neighbour,
    measure_proxies,
)
from benchmarks.history import QUERY_ROWS, measure_postgres, measure_queries, measure_strict
from benchmarks.load import Load
from benchmarks.native import (
    SESSIONS,
    STREAMS,
    measure_keys,
    measure_listen,
    measure_restart,
    measure_session,
    measure_start,
    measure_stream,
    measure_throughput,
)
from benchmarks.servers import Guarded, Server

MEASURES = {
    "throughput": (measure_throughput, "requests a second and cpu a request of all servers"),
    "start": (measure_start, "from process start to the first answered call, and memory at rest"),
    "listen": (measure_listen, f"memory of each of {STREAMS} idle subscriptions/listen streams"),
    "stream": (measure_stream, "a streamed answer against a plain one"),
    "restart": (measure_restart, "how long an actor's restart takes"),
    "session": (measure_session, f"a call in a session against one without, and the memory of each of {SESSIONS} sessions"),
    "gateway": (measure_gateway, "a call through the gateway against the bare forwarding hop"),
    "gateway-stdio": (measure_gateway_stdio, "a call through the gateway to one server on pipes that all share"),
    "neighbour": (measure_neighbour, "what a plugin notices of another one that hangs with a full queue"),
    "catalog": (measure_catalog, f"{CATALOG_PLUGINS} plugins of {CATALOG_TOOLS} tools: lists, a reload, memory"),
    "proxies": (measure_proxies, f"a call through the gateway against {PROXY}, {PROXY_CONNECTIONS} connections"),
    "keys": (measure_keys, "a caller with a key and limits against one who needs none"),
    "queries": (measure_queries, f"what the history takes to answer when it holds {QUERY_ROWS} rows"),
    "strict": (measure_strict, "strict history against batched, on SQLite"),
    "postgres": (measure_postgres, "history on PostgreSQL against batched on SQLite"),
}
# The peers have these two only.
MEASURES_OF_ALL = ("throughput", "start")


class Bench:
    """What the measures share."""

    def __init__(self, options, commands, folder):
        self.rounds, self.seconds = options.rounds, options.seconds
        self.commands, self.folder = commands, folder
        self.built, self.plain = options.no_build, options.plain
        self.load = Load(folder)

    def server(self, name, env=None, data=None):
        command = self.commands[name]
        if name == "waygate":
            data = data or ("test-data" if env else "data")
            command = [*command, "--data-dir", str(Path(self.folder) / data)]
        return Server(name, command, self.folder, env)

    def closed(self, data="closed-data"):
        """Waygate with everything on: whoever calls has a key, whose calls are counted and limited."""
        return Guarded("waygate", [*self.commands["waygate"], "--data-dir", str(Path(self.folder) / data)], self.folder)
