"""Processes as the kernel shows them: their time, their memory, their children. Must not know servers."""

import contextlib
import ctypes
import os
import re
import signal
import socket
from pathlib import Path


def pinned_child(cpu):
    """In the child: on one processor, or on those of a set, and gone when this script is gone."""
    os.sched_setaffinity(0, cpu if isinstance(cpu, set) else {cpu})
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tree_of(pid):
    """The process and its descendants."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                found += tree_of(int(child))
    return found


def tasks_of(pid):
    for member in tree_of(pid):
        yield from Path(f"/proc/{member}/task").glob("*")


def read_first_number(path):
    try:
        return int(path.read_text().split()[0])
    except OSError:
        return 0


def rss_kb_of(pid):
    with contextlib.suppress(OSError):
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
    return 0


def pss_kb_of(pid):
    """Memory of a process, of what it shares its part."""
    with contextlib.suppress(OSError):
        return int(re.search(r"Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[1])
    return 0
