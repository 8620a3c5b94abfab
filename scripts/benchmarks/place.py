"""Where and under which conditions everything is measured. Must not know what."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# Waygate's own, as they were built to be measured.
PROGRAMS = ROOT / "target/bench/programs"
SERVER_CPU, LOAD_CPU = 0, 1
CONNECTIONS = 64
WAIT_SECONDS = 30


class CannotMeasure(Exception):
    """Something is missing or answers wrongly; says what and what to do."""
