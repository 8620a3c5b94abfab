"""wrk, and runs by turns. Must not know what the runs are for."""

import json
import re
import statistics
import subprocess
from pathlib import Path

from benchmarks.building import find_wrk
from benchmarks.place import CONNECTIONS, CannotMeasure, LOAD_CPU
from benchmarks.processes import pinned_child
from benchmarks.wire import CALL, CALL_HEADERS, MESSAGE


def lua_of(body, headers, check, numbered=False, pauses=(), keys=()):
    """wrk's script: the request, and one line of JSON at the end. `check` looks for its words in every answer, at a price;
    `numbered` gives every request an id of its own, which some servers need within a session; before a request a connection
    rests for one of `pauses`, in milliseconds, in turn; of `keys` each request shows the next one."""
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(body)}"]
    lines += [f"wrk.headers[{json.dumps(key)}] = {json.dumps(value)}" for key, value in headers.items()]
    if numbered:
        before, after = (json.dumps(part) for part in re.split('(?<="id":)1', body, maxsplit=1))
        lines += [
            "number = 0",
            "function request()",
            f"  number = number + 1 return wrk.format(nil, nil, nil, {before} .. number .. {after})",
            "end",
        ]
    if keys:
        lines += [
            "requests, last = {}, 0",
            "function init()",
            f"  for key in ({json.dumps(' '.join(keys))}):gmatch('%S+') do",
            "    wrk.headers['Authorization'] = 'Bearer ' .. key table.insert(requests, wrk.format())",
            "  end",
            "end",
            "function request() last = last % #requests + 1 return requests[last] end",
        ]
    if pauses:
        lines += [
            f"pauses, paused = {{{', '.join(map(str, pauses))}}}, 0",
            "function delay() paused = paused % #pauses + 1 return pauses[paused] end",
        ]
    if check:
        lines += [
            "threads = {}",
            "function setup(thread) table.insert(threads, thread) end",
            "wrong = 0",
            f"function response(status, headers, body) if not body:find({json.dumps(check)}, 1, true) "
            "then wrong = wrong + 1 end end",
        ]
    lines += [
        "function done(summary, latency, requests)",
        "  local wrong = 0",
        "  for _, thread in ipairs(threads or {}) do wrong = wrong + thread:get('wrong') end",
        "  local errors = summary.errors",
        "  local lost = errors.connect + errors.read + errors.write + errors.timeout",
        "  io.write(string.format('RESULT {\"requests\":%d,\"us\":%d,\"bytes\":%d,\"p50_us\":%d,\"p99_us\":%d,'",
        "    .. '\"refused\":%d,\"lost\":%d,\"wrong\":%d}\\n', summary.requests, summary.duration, summary.bytes,",
        "    latency:percentile(50), latency:percentile(99), errors.status, lost, wrong))",
        "end",
    ]
    return "\n".join(lines) + "\n"


class Load:
    """wrk, alone on its processor."""

    def __init__(self, folder):
        self.wrk, self.folder = find_wrk(), Path(folder)

    def run(
        self, server, seconds, body=CALL, headers=CALL_HEADERS, connections=CONNECTIONS, check=None, numbered=False, pauses=(),
        keys=(),
    ):
        """One run: what wrk saw, and what it cost the server."""
        script = self.folder / "request.lua"
        script.write_text(lua_of(body, headers, check, numbered, pauses, keys))
        command = [self.wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)]
        command.append(f"http://127.0.0.1:{server.port}{server.path}")
        cpu_before = server.cpu_seconds()
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: pinned_child(LOAD_CPU))
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
        if line is None:
            raise CannotMeasure(f"wrk failed against {server.name}: {done.stdout[-300:]}{done.stderr[-300:]}")
        seen = json.loads(line.removeprefix("RESULT "))
        if seen["refused"] or seen["lost"] or seen["wrong"] or not seen["requests"]:
            raise CannotMeasure(f"{server.name} did not answer every request of a run rightly: {seen}")
        return {
            "rps": seen["requests"] / (seen["us"] / 1e6),
            "cpu_us": (server.cpu_seconds() - cpu_before) / seen["requests"] * 1e6,
            "p50_ms": seen["p50_us"] / 1e3,
            "p99_ms": seen["p99_us"] / 1e3,
            "rss_mb": server.rss_kb() / 1024,
            "requests": seen["requests"],
            "answer_bytes": seen["bytes"] / seen["requests"],
        }

    def warm_up(self, server, body=CALL, headers=CALL_HEADERS, sought=MESSAGE, seconds=1, **more):
        """A run in which every answer is looked into; later runs must have answers of the same size."""
        self.run(server, seconds, body, headers, check=sought, **more)
        return self.run(server, seconds, body, headers, **more)["answer_bytes"]

    def run_like(self, warm_bytes, server, seconds, sought=None, **more):
        """A run whose answers have the size of those that were looked into."""
        seen = self.run(server, seconds, **more)
        # Of each connection's last answer some may have come.
        on_the_way = more.get("connections", CONNECTIONS) / seen["requests"]
        if abs(seen["answer_bytes"] / warm_bytes - 1) > 0.02 + on_the_way:
            raise CannotMeasure(
                f"{server.name} answered with {seen['answer_bytes']:.0f} bytes on average, not {warm_bytes:.0f}"
            )
        return seen


def medians(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def run_by_turns(bench, servers, seconds=None, **more):
    """The runs of each of `servers`, whose values are a server and what is asked of it; `seconds` where those of all runs
    are too few."""
    warm = {"seconds": seconds} if seconds else {}
    sizes = {name: bench.load.warm_up(server, **asked, **warm) for name, (server, asked) in servers.items()}
    runs = {name: [] for name in servers}
    for turn in range(bench.rounds):
        for name in servers if turn % 2 == 0 else reversed(servers):
            server, asked = servers[name]
            runs[name].append(bench.load.run_like(sizes[name], server, seconds or bench.seconds, **asked, **more))
    return runs


def figures_of(runs):
    return {f"{name}_{key}": statistics.median(run[key] for run in own)
            for name, own in runs.items() for key in ("rps", "cpu_us", "p50_ms", "p99_ms")}


def ratio_of(runs, name, base, key):
    """The median of the ratios by round."""
    return statistics.median(own[key] / other[key] for own, other in zip(runs[name], runs[base]))
