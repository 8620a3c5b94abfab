"""The command line."""

import argparse
import asyncio
import json
import os
import sys
import tempfile

from benchmarks.building import build
from benchmarks.measures import Bench, MEASURES, MEASURES_OF_ALL
from benchmarks.place import CannotMeasure, LOAD_CPU, ROOT, SERVER_CPU
from benchmarks.telling import tell_bars, tell_throughput


def parse_options(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (7)")
    parser.add_argument("--seconds", type=int, default=2, help="of each run (2)")
    known = "; ".join(f"{name}: {what}" for name, (_, what) in MEASURES.items())
    parser.add_argument("--only", default=",".join(MEASURES), help=f"comma-separated measures ({known})")
    parser.add_argument("--servers", default="waygate,rmcp,floor", help="comma-separated (waygate,rmcp,floor)")
    parser.add_argument("--no-build", action="store_true", help="take what target/ holds")
    parser.add_argument("--json", action="store_true", help="print figures as JSON instead of tables")
    options = parser.parse_args()
    options.only, options.servers = options.only.split(","), options.servers.split(",")
    for given, all_known in ((options.only, MEASURES), (options.servers, ("waygate", "rmcp", "floor"))):
        for name in given:
            if name not in all_known:
                parser.error(f"there is no `{name}`; known are {', '.join(all_known)}")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    return options


def main(doc):
    options = parse_options(doc)
    if not {SERVER_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
        raise CannotMeasure("two processors are needed: one for the server, one for the load")
    commands = build(options.servers, options.no_build)
    os.sched_setaffinity(0, {LOAD_CPU})
    found, failed = {}, []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "target") as folder:
        bench = Bench(options, commands, folder)
        for name in options.only:
            if name not in MEASURES_OF_ALL and "waygate" not in commands:
                continue
            print(f"measuring {name}", file=sys.stderr)
            measure, _ = MEASURES[name]
            try:
                found[name] = measure(bench)
            except (CannotMeasure, KeyError, OSError, asyncio.TimeoutError) as reason:
                failed.append(f"{name}: {reason!r}" if isinstance(reason, KeyError) else f"{name}: {reason}")
    if options.json:
        print(json.dumps({"figures": found, "failed": failed}, indent=2))
    else:
        if "throughput" in found:
            tell_throughput(found["throughput"])
        tell_bars(found)
    for reason in failed:
        print(f"could not measure {reason}", file=sys.stderr)
    return 1 if failed else 0
