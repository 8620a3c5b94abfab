"""Ten minutes at four fifths of what one core is good for: memory and throughput must stay as they are."""

import statistics
import sys
import time

from benchmarks import plots
from benchmarks.wire import CALL

SECONDS, SLICE_SECONDS, SHARE = 600, 10, 0.8
CONNECTIONS = 256
# Memory and rate must move by no more than this from the first quarter to the last.
FLAT = 0.05
NAMES = {"rps": "calls a second", "rss_mb": "memory", "cpu_us": "cpu a call", "p99_ms": "p99"}


def pauses_for(rate, latency_ms):
    """Rests in whole milliseconds with which all connections together come to `rate` calls a second."""
    rest = max(CONNECTIONS / rate * 1e3 - latency_ms, 0)
    whole = int(rest)
    more = round((rest - whole) * 100)
    return [whole + (1 if n * more // 100 != (n + 1) * more // 100 else 0) for n in range(100)]


def measure(bench, seconds=SECONDS):
    with bench.server("waygate") as server:
        bench.load.warm_up(server)
        most = statistics.median(bench.load.run(server, 3)["rps"] for _ in range(3))
        pauses, slices = pauses_for(most * SHARE, 1), []
        # A few slices tell how long a call takes beside the rests, which moves with them.
        for _ in range(4):
            seen = bench.load.run(server, 3, connections=CONNECTIONS, pauses=pauses)
            pauses = pauses_for(most * SHARE, CONNECTIONS / seen["rps"] * 1e3 - statistics.mean(pauses))
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds:
            seen = bench.load.run(server, SLICE_SECONDS, connections=CONNECTIONS, pauses=pauses)
            slices.append({"at": now, **seen})
            print(f"soak: {now:.0f} s, {seen['rps']:.0f} calls/s, {seen['rss_mb']:.1f} MB", file=sys.stderr)
    quarter = max(len(slices) // 4, 1)
    moved = {}
    for key in ("rps", "rss_mb", "p99_ms", "cpu_us"):
        first, last = (statistics.median(seen[key] for seen in part) for part in (slices[:quarter], slices[-quarter:]))
        moved[key] = last / first - 1
    return {"most_rps": most, "slices": slices, "moved": moved, "bytes": len(CALL)}


def missed(kept):
    """What moved by more than it may."""
    moved = kept["figures"]["moved"] if kept else {}
    return [f"{NAMES[key]} over the soak" for key in ("rps", "rss_mb") if abs(moved.get(key, 0)) > FLAT]


def tell(kept, picture, table):
    if not kept:
        return "## Soak\n\nNot run on this machine: `scripts/bench --soak` takes ten minutes.\n\n"
    figures = kept["figures"]
    slices, moved = figures["slices"], figures["moved"]
    share = statistics.median(seen["rps"] for seen in slices) / figures["most_rps"]
    busy = statistics.median(seen["rps"] * seen["cpu_us"] / 1e6 for seen in slices)
    text = (f"## Soak\n\n{slices[-1]['at'] / 60:.0f} minutes of {CONNECTIONS} connections that rest between calls, at {share:.0%} of the rate "
            f"of 64 that do not, which kept the core busy to {busy:.0%}, {kept['taken']}, at {kept['commit']}: `scripts/bench --soak`\n\n")
    for key, heading in (("rss_mb", "Memory, MB"), ("rps", "Calls a second")):
        line = [(seen["at"] / 60, seen[key], seen[key], seen[key]) for seen in slices]
        text += picture(f"soak-{key}", plots.times(heading, "minutes", line), heading)
    rows = [[NAMES[key], f"{moved[key]:+.1%}", "" if key in ("p99_ms", "cpu_us") else f"within {FLAT:.0%}",
             "" if key in ("p99_ms", "cpu_us") else "met" if abs(moved[key]) <= FLAT else "**missed**"] for key in NAMES]
    return text + table(["from the first quarter to the last", "moved", "bar", ""], rows)
