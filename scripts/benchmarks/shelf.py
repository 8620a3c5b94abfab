"""Where figures lie between runs, one file for each row, so that a row can be measured again by itself."""

import json
import subprocess
import time

from benchmarks.place import ROOT

FOLDER = ROOT / "target/bench/figures"


def put(kind, name, figures, bench):
    """Keeps the figures of a row, with how they were taken."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    taken = {"taken": time.strftime("%Y-%m-%d", time.gmtime()), "commit": commit, "rounds": bench.rounds, "seconds": bench.seconds,
             "plain": bench.plain}
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{kind}-{name}.json").write_text(json.dumps(taken | {"figures": figures}, indent=1))


def take(kind, names):
    """What was kept of these rows, by name, in their order."""
    paths = {name: FOLDER / f"{kind}-{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
