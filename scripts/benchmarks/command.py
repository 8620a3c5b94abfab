"""The command line."""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time

from benchmarks import document, growth, shelf, soak
from benchmarks.building import build
from benchmarks.matrix import ROWS
from benchmarks.measures import Bench, MEASURES, MEASURES_OF_ALL
from benchmarks.place import CannotMeasure, LOAD_CPU, ROOT, SERVER_CPU
from benchmarks.telling import tell_bars, tell_throughput


def parse_options(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="interleaved rounds (7; of the matrix 5, of growth 3)")
    parser.add_argument("--seconds", type=int, default=2, help="of each run (2)")
    known = "; ".join(f"{name}: {what}" for name, (_, what) in MEASURES.items())
    parser.add_argument("--only", default=",".join(MEASURES), help=f"comma-separated measures ({known})")
    parser.add_argument("--servers", default="waygate,rmcp,floor", help="comma-separated (waygate,rmcp,floor)")
    parser.add_argument("--no-build", action="store_true", help="take what target/ holds")
    parser.add_argument("--plain", action="store_true", help="measure what `cargo build --release` builds, not scripts/release")
    parser.add_argument("--json", action="store_true", help="print figures as JSON instead of tables")
    parser.add_argument("--matrix", action="store_true", help="measure the rows of docs/benchmarks.md and write it")
    parser.add_argument("--growth", action="store_true", help="measure the curves of docs/benchmarks.md and write it")
    parser.add_argument("--soak", action="store_true", help="ten minutes of load for docs/benchmarks.md")
    parser.add_argument("--document", action="store_true", help="write docs/benchmarks.md of what was measured before")
    parser.add_argument("--rows", help=f"of the matrix ({', '.join(PARTS['row'])}, {', '.join(PARTS['measure'])}) "
                        f"or of growth ({', '.join(PARTS['growth'])}), comma-separated; with `missing` those without figures")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 3 if options.growth else 5 if options.matrix else 7
    options.only, options.servers = options.only.split(","), options.servers.split(",")
    for given, all_known in ((options.only, MEASURES), (options.servers, ("waygate", "rmcp", "floor"))):
        for name in given:
            if name not in all_known:
                parser.error(f"there is no `{name}`; known are {', '.join(all_known)}")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    return options


# Exit codes.
NOT_MEASURED, MISSED = 1, 3
# What keeps one measure from its end, and no other.
FAILURES = (CannotMeasure, KeyError, ValueError, OSError, asyncio.TimeoutError, subprocess.TimeoutExpired)
# What lies on the shelf, by its kind.
PARTS = {"row": ROWS, "measure": document.OWN, "growth": growth.CURVES, "soak": ("soak",)}


def parts_of(options):
    """What is to be measured for the page, as kinds and names."""
    kinds = ["row", "measure"] * options.matrix + ["growth"] * options.growth + ["soak"] * options.soak
    wanted = [(kind, name) for kind in kinds for name in PARTS[kind]]
    if options.rows == "missing":
        return [(kind, name) for kind, name in wanted if not shelf.take(kind, [name])]
    if not options.rows:
        return wanted
    names = options.rows.split(",")
    for name in names:
        if name not in [known for _, known in wanted]:
            raise CannotMeasure(f"there is no row `{name}`; known are {', '.join(known for _, known in wanted)}")
    return [(kind, name) for kind, name in wanted if name in names]


def measure_part(kind, name, bench):
    if kind == "row":
        return ROWS[name][2](bench)
    if kind == "growth":
        return growth.CURVES[name][2](bench)
    return soak.measure(bench) if kind == "soak" else MEASURES[name][0](bench)


def measure_for_page(options, commands):
    """Measures what is asked for, keeps each part as soon as it is there, and writes the page of all that is kept."""
    failed = []
    for kind, name in parts_of(options):
        print(f"measuring {name}", file=sys.stderr)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "target") as folder:
            bench = Bench(options, commands, folder)
            try:
                shelf.put(kind, name, measure_part(kind, name, bench), bench)
                print(f"{name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
            except FAILURES as reason:
                failed.append(f"{name}: {reason!r}" if isinstance(reason, KeyError) else f"{name}: {reason}")
                print(f"could not measure {failed[-1]}", file=sys.stderr)
        # What is built once stays built.
        options.no_build = options.no_build or bench.built
    return write_page(failed)


def write_page(failed):
    unexplained = document.write()
    print(f"written: {document.PAGE.relative_to(ROOT)}", file=sys.stderr)
    for reason in failed:
        print(f"could not measure {reason}", file=sys.stderr)
    for what in unexplained:
        print(f"missed, and the page does not say why: {what}", file=sys.stderr)
    return NOT_MEASURED if failed else MISSED if unexplained else 0


def main(doc):
    options = parse_options(doc)
    is_for_page = options.matrix or options.growth or options.soak or options.document
    if options.document and not (options.matrix or options.growth or options.soak):
        return write_page([])
    if not {SERVER_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
        raise CannotMeasure("two processors are needed: one for the server, one for the load")
    commands = build(options.servers, options.no_build, options.plain)
    os.sched_setaffinity(0, {LOAD_CPU})
    if is_for_page:
        return measure_for_page(options, commands)
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
            except FAILURES as reason:
                failed.append(f"{name}: {reason!r}" if isinstance(reason, KeyError) else f"{name}: {reason}")
    if options.json:
        print(json.dumps({"figures": found, "failed": failed}, indent=2))
    elif "throughput" in found:
        tell_throughput(found["throughput"])
    missed = tell_bars(found, sys.stderr if options.json else sys.stdout)
    for reason in failed:
        print(f"could not measure {reason}", file=sys.stderr)
    if failed:
        return NOT_MEASURED
    return MISSED if missed else 0
