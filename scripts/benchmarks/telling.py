"""Figures as tables on a terminal, held against their bars. Must not know how they were measured."""

from benchmarks.place import CONNECTIONS
from benchmarks.wire import CALL


def tell_throughput(rows):
    print(f"\n{CONNECTIONS} connections, one core a server, one call of {len(CALL)} bytes")
    print(
        f"{'server':<9} {'req/s':>9} {'min':>9} {'max':>9} {'of floor':>9} {'of rmcp':>9} "
        f"{'cpu us':>7} {'p50 ms':>7} {'p99 ms':>7} {'RSS MB':>7}"
    )
    for name, row in rows.items():
        ratios = [f"{row[key]:>9.3f}" if key in row else f"{'-':>9}" for key in ("to_floor", "to_rmcp")]
        print(
            f"{name:<9} {row['rps']:>9.0f} {row['rps_min']:>9.0f} {row['rps_max']:>9.0f} {' '.join(ratios)} "
            f"{row['cpu_us']:>7.2f} {row['p50_ms']:>7.3f} {row['p99_ms']:>7.3f} {row['rss_mb']:>7.1f}"
        )
    for name, row in rows.items():
        for base in ("floor", "rmcp"):
            if name != base and f"to_{base}_by_round" in row:
                each = " ".join(f"{ratio:.3f}" for ratio in row[f"to_{base}_by_round"])
                print(f"{name} of {base} by round: {each}")


# measure, figure, what it is, unit, the bar, and whether more is better
BARS = [
    ("throughput", "to_rmcp", "echo, of the rmcp server", "x", 1.8, True),
    ("throughput", "to_floor", "echo, of the floor", "x", 0.55, True),
    ("start", "first_call_ms", "start to first answered call", "ms", 25, False),
    ("start", "idle_rss_mb", "memory at rest", "MB", 20, False),
    ("listen", "stream_kb", "memory of an idle listen stream", "KiB", 16, False),
    ("stream", f"streamed_to_plain_at_{CONNECTIONS}", f"streamed p50, of plain, {CONNECTIONS} conn.", "x", 3, False),
    ("stream", "streamed_to_plain_at_1", "streamed p50, of plain, 1 conn.", "x", None, False),
    ("session", "session_to_stateless", "call in a session, of one without", "x", 0.9, True),
    ("session", "session_kb", "memory of a session without a stream", "KiB", 4, False),
    ("gateway", "gateway_rps", "calls through the gateway", "/s", None, True),
    ("gateway", "gateway_cpu_us", "cpu a call of the gateway", "us", None, False),
    ("gateway", "hop_rps", "calls through the bare hop", "/s", None, True),
    ("gateway", "hop_cpu_us", "cpu a call of the bare hop", "us", None, False),
    ("gateway", "gateway_to_hop", "through the gateway, of the hop", "x", 0.85, True),
    ("gateway", "gateway_cpu_to_hop", "cpu of the gateway, of the hop", "x", 1.25, False),
    ("gateway-stdio", "legacy_rps", "to a shared 2025-11-25 on pipes", "/s", 10_000, True),
    ("gateway-stdio", "legacy_cpu_us", "cpu a call of Waygate", "us", None, False),
    ("gateway-stdio", "modern_rps", "to a shared 2026-07-28 on pipes", "/s", 10_000, True),
    ("gateway-stdio", "modern_cpu_us", "cpu a call of Waygate", "us", None, False),
    ("neighbour", "alone_p99_ms", "p99 while the other one rests", "ms", None, False),
    ("neighbour", "beside_p99_ms", "p99 while the other one hangs", "ms", None, False),
    ("neighbour", "p99_moves", "p99 beside it, of p99 alone", "x", 1.1, False),
    ("catalog", "list_server_us", "first page of tools, in Waygate", "us", 1000, False),
    ("catalog", "list_p50_ms", "first page of tools, at a client", "ms", None, False),
    ("catalog", "reload_ms", "reload of one plugin on HTTP", "ms", 100, False),
    ("catalog", "reload_ms_max", "the same, worst", "ms", None, False),
    ("catalog", "http_rss_mb", "memory at rest, servers on HTTP", "MB", 80, False),
    ("catalog", "stdio_reload_ms", "reload of one plugin on pipes", "ms", 100, False),
    ("catalog", "stdio_rss_mb", "memory at rest, servers on pipes", "MB", 80, False),
    ("catalog", "guards_pss_mb", "memory of all guards, shared by part", "MB", None, False),
    ("proxies", "http_rps", "sessions' calls to a server on HTTP", "/s", None, True),
    ("proxies", "proxy_http_rps", "the same through mcp-proxy", "/s", None, True),
    ("proxies", "http_to_proxy", "through Waygate, of mcp-proxy", "x", 40, True),
    ("proxies", "stdio_rps", "sessions' calls to a server on pipes", "/s", None, True),
    ("proxies", "proxy_stdio_rps", "the same through mcp-proxy", "/s", None, True),
    ("proxies", "stdio_to_proxy", "through Waygate, of mcp-proxy", "x", None, True),
    ("keys", "open_rps", "echo without keys and limits", "/s", None, True),
    ("keys", "guarded_rps", "echo for a key with limits", "/s", None, True),
    ("keys", "guarded_to_open", "with key and limits, of without", "x", 0.9, True),
    ("keys", "guarded_cpu_to_open", "cpu with them, of without", "x", None, False),
    *[("queries", f"{name}_ms", f"history: {what}", "ms", 1000, False) for name, what in (
        ("newest", "the newest calls"), ("oldest", "the oldest calls"), ("tool", "of one tool"),
        ("no_tool", "of a tool that is not there"), ("caller", "of one caller"), ("failed", "the oldest that failed"),
        ("session", "of one session"), ("client", "of a client that is not there"), ("method", "of a method that nobody called"),
        ("slower", "that took longer than any did"), ("call", "all of one call"), ("of_all", "by tool, caller and status"))],
    ("queries", "size_gb", "history: its size", "GB", None, False),
    ("strict", "batched_rps", "batched history", "/s", None, True),
    ("strict", "strict_rps", "strict history", "/s", None, True),
    ("strict", "strict_to_batched", "strict, of batched", "x", 0.4, True),
    ("postgres", "sqlite_rps", "batched on SQLite", "/s", None, True),
    ("postgres", "postgres_rps", "batched on PostgreSQL", "/s", None, True),
    # The database has no processor of its own here: it takes what the load generator needs, which the rate shows.
    ("postgres", "postgres_to_sqlite", "batched on PostgreSQL, of SQLite", "x", None, True),
    ("postgres", "postgres_cpu_us", "cpu a call on PostgreSQL", "us", None, False),
    ("postgres", "postgres_cpu_to_sqlite", "cpu a call there, of SQLite", "x", 1.1, False),
    ("postgres", "postgres_dropped", "records dropped on PostgreSQL", "", 1, False),
    ("postgres", "postgres_strict_to_sqlite", "strict there, of batched on SQLite", "x", None, True),
    ("restart", "restart_us", "actor restart, median", "us", 1000, False),
    ("restart", "restart_us_max", "actor restart, worst", "us", None, False),
]


def is_met(value, bar, more):
    return value >= bar if more else value < bar


def tell_bars(found, to):
    """Prints figures with their bars; gives what misses one."""
    missed = []
    print(f"\n{'figure':<36} {'server':<9} {'value':>10} {'unit':<4} bar", file=to)
    for measure, key, what, unit, bar, more in BARS:
        for name, row in found.get(measure, {}).items():
            if key in row and (name == "waygate" or measure == "start"):
                value = row[key]
                verdict = ""
                if bar is not None and name == "waygate":
                    met = is_met(value, bar, more)
                    missed += [] if met else [what]
                    verdict = f"{'at least' if more else 'under'} {bar}: {'met' if met else 'MISSED'}"
                print(f"{what:<36} {name:<9} {value:>10.2f} {unit:<4} {verdict}", file=to)
    return missed
