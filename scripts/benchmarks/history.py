"""What recording costs, and what the history takes to answer."""

import contextlib
import re
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.building import private_postgres
from benchmarks.place import CannotMeasure, LOAD_CPU, PROGRAMS, WAIT_SECONDS
from benchmarks.servers import Hanging
from benchmarks.wire import ask

QUERY_ROWS = 5_000_000
# What history can be kept in, and how, as environments of the server.
BATCHED, STRICT = {}, {"WAYGATE_HISTORY_DURABILITY": "strict"}


def measure_variants(bench, variants):
    """Medians of each environment of Waygate, and by round its ratio to the first."""
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(bench.server("waygate", env, data=name)) for name, env in variants.items()
        }
        sizes = {name: bench.load.warm_up(server) for name, server in servers.items()}
        runs = {name: [] for name in servers}
        for turn in range(bench.rounds):
            for name in servers if turn % 2 == 0 else reversed(servers):
                runs[name].append(bench.load.run_like(sizes[name], servers[name], bench.seconds))
        result = {}
        base = next(iter(servers))
        for name, own in runs.items():
            result[f"{name}_rps"] = statistics.median(run["rps"] for run in own)
            result[f"{name}_p99_ms"] = statistics.median(run["p99_ms"] for run in own)
            result[f"{name}_cpu_us"] = statistics.median(run["cpu_us"] for run in own)
            ratios = [run["rps"] / other["rps"] for run, other in zip(own, runs[base])]
            result[f"{name}_to_{base}"] = statistics.median(ratios)
            costs = [run["cpu_us"] / other["cpu_us"] for run, other in zip(own, runs[base])]
            result[f"{name}_cpu_to_{base}"] = statistics.median(costs)
            result[f"{name}_dropped"] = count_dropped(servers[name])
    return {"waygate": result}


def count_dropped(server):
    """History records that found no room."""
    _, _, text = ask(server.port, "/metrics", headers=getattr(server, "OWN", None))
    return float(re.search(r"^waygate_history_dropped (\S+)", text, re.MULTILINE)[1])


def fill_history(database, rows):
    """`rows` calls, one a second and the newest of just now; made by SQLite itself, since to write them one by one takes long."""
    with contextlib.closing(sqlite3.connect(database)) as history:
        history.execute("PRAGMA synchronous = OFF")
        history.execute(
            """
            WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :rows)
            INSERT INTO command_history (instance_id, seq, call_id, kind, created_at, method, plugin, tool, caller, client,
                                         session, protocol_version, status, error_code, duration_us, arguments,
                                         result_bytes, request_id)
            SELECT 'filled', n, printf('%032x', n), 'outcome',
                   strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || (:rows - n) || ' seconds'), 'tools/call', 'p' || n % 20,
                   'p' || n % 20 || '__tool' || n % 200, 'key:' || (n * 7) % 1000, 'client/1.0',
                   CASE n % 10 WHEN 0 THEN 's' || n / 100 % 5000 END, '2025-11-25',
                   CASE n % 50 WHEN 0 THEN 'failed' ELSE 'success' END, CASE n % 50 WHEN 0 THEN 'tool_error' END,
                   CASE n % 1000 WHEN 11 THEN 1500000 ELSE n % 90000 END, '{"path": "/srv/data/file-' || n || '"}', 512, printf('%016x', n)
            FROM number
            """,
            {"rows": rows},
        )
        history.commit()
        ends = history.execute("SELECT min(created_at), max(created_at) FROM command_history").fetchone()
        return [moment.replace(" ", "T") + "Z" for moment in ends]


def measure_queries(bench):
    """What `history` takes of a large database, start of the process and all; each query is the worst of its kind here."""
    program = PROGRAMS / "waygate-mcp"
    data = Path(bench.folder) / "queries-data"
    with Hanging("queries", [str(program), "--data-dir", str(data)], bench.folder, cpu=LOAD_CPU):
        pass  # It makes the database.
    print(f"filling the history with {QUERY_ROWS} rows", file=sys.stderr)
    began, now = fill_history(data / "data/waygate.db", QUERY_ROWS)
    queries = {
        "newest": ["list"],
        "oldest": ["list", "--until", began[:17] + "59Z"],
        "tool": ["list", "--tool", "p7__tool7"],
        "no_tool": ["list", "--tool", "nobody__offers_this"],
        "caller": ["list", "--caller", "key:7"],
        "failed": ["list", "--status", "failed", "--until", began[:17] + "59Z"],
        "session": ["list", "--session", "s7"],
        "client": ["list", "--client", "nobody"],
        "method": ["list", "--method", "prompts/get"],
        "slower": ["list", "--slower-than", "2s"],
        "call": ["show", f"{QUERY_ROWS // 2:032x}"],
        "of_all": ["list", "--tool", "p7__tool7", "--caller", "key:7", "--status", "failed"],
    }
    took = {name: [] for name in queries}
    for _ in range(bench.rounds):
        for name, words in queries.items():
            command = [program, "history", *words, "--json", "--data-dir", data]
            at = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS)
            took[name].append(time.monotonic() - at)
            if done.returncode not in (0, 1) or not done.stdout.strip():
                raise CannotMeasure(f"history {words} ends with {done.returncode}: {done.stderr[-300:]}")
    figures = {f"{name}_ms": statistics.median(times) * 1000 for name, times in took.items()}
    size = (data / "data/waygate.db").stat().st_size / 1e9
    return {"waygate": figures | {"worst_ms": max(figures.values()), "size_gb": size}}


def measure_strict(bench):
    return measure_variants(bench, {"batched": BATCHED, "strict": STRICT})


def measure_postgres(bench):
    """PostgreSQL runs beside the load, with its own settings for safety on disk."""
    with private_postgres() as url:
        at = {"WAYGATE_DATABASE_URL": url}
        return measure_variants(bench, {"sqlite": BATCHED, "postgres": at, "postgres_strict": at | STRICT})
