"""Servers as processes: started, asked for their first answer, stopped. Must not know what is measured."""

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path

from benchmarks.place import CannotMeasure, LOAD_CPU, PROGRAMS, ROOT, SERVER_CPU, WAIT_SECONDS
from benchmarks.processes import free_port, pinned_child, read_first_number, rss_kb_of, tasks_of, tree_of
from benchmarks.wire import CALL, CALL_HEADERS, MESSAGE, ask, body_of, headers_of, open_session


class Server:
    """One server process, alone on its processor unless another is named."""

    WORKERS = ("--workers", "1")
    # How long it may take until it answers its first call.
    START_SECONDS = WAIT_SECONDS

    def __init__(self, name, command, folder, env=None, path="/mcp", cpu=SERVER_CPU):
        self.name, self.port, self.path, self.cpu = name, free_port(), path, cpu
        self.command = [*command, "--port", str(self.port), *self.WORKERS]
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("WAYGATE_")} | (env or {})
        self.log_path = Path(folder) / f"{name}.log"

    def __enter__(self):
        self.log = open(self.log_path, "ab")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env=self.env,
            cwd=ROOT / "target",
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            preexec_fn=lambda: pinned_child(self.cpu),
        )
        try:
            self.first_call_seconds = self.wait_for_first_call()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def wait_for_first_call(self):
        """Seconds from the start of the process to the first answered call."""
        while time.monotonic() - self.started < self.START_SECONDS:
            if self.process.poll() is not None:
                raise CannotMeasure(f"{self.name} ended with {self.process.returncode} at start; it said:\n{self.said()}")
            with contextlib.suppress(OSError):
                if self.answers():
                    return time.monotonic() - self.started
            time.sleep(0.001)
        raise CannotMeasure(f"{self.name} answered no call within {self.START_SECONDS} s; it said:\n{self.said()}")

    def said(self):
        """The end of what it wrote: its folder goes with the run."""
        return self.log_path.read_text(errors="replace")[-600:]

    def answers(self):
        status, _, text = ask(self.port, self.path, CALL, CALL_HEADERS)
        # A plugin that is not there yet is a path or a tool that is not there.
        if status not in (200, 503, 404, 400):
            raise CannotMeasure(f"{self.name} answers the call with {status}: {text[:300]}")
        return status == 200 and MESSAGE in text

    def cpu_seconds(self):
        """On-cpu time of the process tree, from the scheduler."""
        return sum(read_first_number(task / "schedstat") for task in tasks_of(self.process.pid)) / 1e9

    def rss_kb(self):
        """Resident memory of the process tree."""
        return sum(rss_kb_of(pid) for pid in tree_of(self.process.pid))


class Gateway(Server):
    """Waygate with plugin files; its own costs are told without those of the servers behind it."""

    def __init__(self, name, plugins, folder, path="/mcp", env=None):
        data = Path(folder) / f"{name}-data"
        self.plugins = data / "plugins"
        self.plugins.mkdir(parents=True, mode=0o700)
        for plugin, text in plugins.items():
            self.describe(plugin, text)
        super().__init__(name, [str(PROGRAMS / "waygate-mcp"), "--data-dir", str(data)], folder, env, path)

    def describe(self, plugin, text):
        """A file appears whole: the folder is watched."""
        whole = self.plugins.parent / f"{plugin}.new"
        whole.write_text(text)
        whole.rename(self.plugins / f"{plugin}.toml")

    def show(self, what):
        status, _, text = ask(self.port, what)
        if status != 200:
            raise CannotMeasure(f"{what} answers {status}: {text[:300]}")
        return json.loads(text)

    def wait_until(self, what, seen):
        deadline = time.monotonic() + WAIT_SECONDS
        while not seen():
            if time.monotonic() > deadline:
                raise CannotMeasure(f"{self.name} did not come so far within {WAIT_SECONDS} s: {what}")
            time.sleep(0.02)

    def cpu_seconds(self):
        return sum(read_first_number(task / "schedstat") for task in Path(f"/proc/{self.process.pid}/task").glob("*")) / 1e9

    def rss_kb(self):
        return rss_kb_of(self.process.pid)


class Closed:
    """What makes a Waygate closed but for keys, and count what each caller and all together do. `key` is what a caller shows who
    has one, within limits that are never reached; `asked` is a call of theirs."""

    OWN = {"X-API-Key": "a-key-of-the-measurement-0123456789"}
    LIMITS = {"requestsPerMinute": 1_000_000, "burst": 1_000_000, "concurrent": 10_000}
    # The tools that the key is for.
    ALLOW = "echo"

    def __enter__(self):
        self.env |= {"WAYGATE_API_KEY": self.OWN["X-API-Key"], "WAYGATE_LIMITS_REQUESTS_PER_MINUTE": "100000000"}
        super().__enter__()
        form = json.dumps({"name": "load", "allow": [self.ALLOW], "limits": self.LIMITS})
        status, _, text = ask(self.port, "/admin/api/keys", form, self.OWN | {"Content-Type": "application/json"})
        if status != 201:
            self.__exit__()
            raise CannotMeasure(f"{self.name} makes no key: {status} {text[:300]}")
        self.key = {"Authorization": f"Bearer {json.loads(text)['secret']}"}
        self.asked = {"headers": CALL_HEADERS | self.key}
        return self

    def answers(self):
        status, _, text = ask(self.port, self.path, CALL, CALL_HEADERS | self.OWN)
        return status == 200 and MESSAGE in text


class Guarded(Closed, Server):
    """Waygate's echo, closed."""


class ClosedGateway(Closed, Gateway):
    """Waygate with plugin files, closed."""

    ALLOW = "up__*"


class Hanging(Server):
    """A server whose calls are not waited for."""

    def answers(self):
        return ask(self.port, self.path, body_of("server/discover", {}), headers_of("server/discover"))[0] == 200


class Interpreted(Server):
    """One whose start alone takes seconds."""

    START_SECONDS = 120


class Proxy(Interpreted):
    """mcp-proxy in front of a server on pipes, or of itself where the server is on HTTP: it has no other way there."""

    WORKERS = ()

    def __init__(self, name, proxy, behind, folder):
        super().__init__(name, [str(proxy), "--host", "127.0.0.1", "--log-level", "ERROR"], folder)
        self.command += ["--", *behind]

    def answers(self):
        return bool(open_session(self))


def at_url(url, more=""):
    return f"url = {json.dumps(url)}\n{more}"


def on_pipes(program, *arguments):
    return f"command = {json.dumps(str(program))}\nargs = {json.dumps(arguments)}\nisolation = \"shared\"\n"


def move_to_load(server, program):
    """Has the servers on pipes behind `server` share the processor of the load, as those on HTTP do."""
    moved = 0
    for pid in tree_of(server.process.pid):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe") == os.path.realpath(program):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), {LOAD_CPU})
                moved += 1
    if not moved:
        raise CannotMeasure(f"{program} does not run behind {server.name}")
