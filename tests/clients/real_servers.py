"""Servers that people use, from npm and PyPI, behind Waygate: imported, listed, called, reloaded, killed and back again.

    real_servers.py <program of Waygate> <folder with node_modules and python>

Every step says what it does; the first that goes wrong ends the run with 1.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gateway import WAIT_SECONDS, Gateway, Refused

# A tool of each server, arguments that do no harm, and a word of the answer.
CALLS = {
    "everything": ("echo", {"message": "hello"}, "hello"),
    "filesystem": ("list_allowed_directories", {}, "shared"),
    "memory": ("read_graph", {}, "entities"),
    "thinking": (
        "sequentialthinking",
        {"thought": "one", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1},
        "thoughtNumber",
    ),
    "time": ("get_current_time", {"timezone": "UTC"}, "UTC"),
    "git": ("git_status", {"repo_path": "REPOSITORY"}, "branch"),
}


def say(what):
    print(f"# {what}", flush=True)


def claude_config(tools, shared):
    """Three servers, as a desktop client has them in its file."""
    return {
        "mcpServers": {
            "filesystem": {"command": str(tools / "node_modules/.bin/mcp-server-filesystem"), "args": [str(shared)]},
            "memory": {"command": str(tools / "node_modules/.bin/mcp-server-memory")},
            "time": {"command": str(tools / "python/bin/mcp-server-time")},
        }
    }


def add(gateway, tools, repository):
    """The others, one by one."""
    bin = tools / "node_modules/.bin"
    gateway.run("plugins", "add", "everything", "--command", str(bin / "mcp-server-everything"))
    gateway.run("plugins", "add", "thinking", "--command", str(bin / "mcp-server-sequential-thinking"))
    git = str(tools / "python/bin/mcp-server-git")
    gateway.run("plugins", "add", "git", "--command", git, "--arg=--repository", "--arg", str(repository))


def check_call(gateway, plugin, repository):
    tool, arguments, wanted = CALLS[plugin]
    arguments = json.loads(json.dumps(arguments).replace("REPOSITORY", str(repository)))
    # A server that does not say what it needs of its environment is asked once more after its restart.
    result = gateway.call(f"{plugin}__{tool}", arguments)
    if result.get("isError") or wanted not in json.dumps(result):
        raise Refused(f"{plugin}__{tool} answered {json.dumps(result)[:500]}")


def pid_of(shown):
    """The server's process, out of what is shown of its plugin."""
    return shown["report"]["speaker"]["link"]["pid"]


def change(gateway, plugin):
    """Changes the plugin's file in a way that its server does not notice: it appears whole, since its folder is watched."""
    file = gateway.data / "plugins" / f"{plugin}.toml"
    whole = Path(gateway.folder.name) / "changed.toml"
    whole.write_text("concurrency = 7\n" + file.read_text())
    whole.rename(file)


def reload_changed(gateway, plugin, repository):
    """Has a changed file read: its server is another process that answers as before, and all others are left alone."""
    before = {name: pid_of(gateway.show(name)) for name in CALLS}
    change(gateway, plugin)
    answer = json.loads(gateway.run("plugins", "reload", "--json"))
    # The watch of the folder may have been faster.
    if answer["added"] or answer["removed"] or answer["failed"] or answer["changed"] not in ([], [plugin]):
        raise Refused(f"a reload of {plugin} says {answer}")
    shown = gateway.show(plugin)
    if shown["limits"]["concurrency"] != 7 or shown["state"] not in ("ready", "degraded"):
        raise Refused(f"{plugin} is not what its file says: {shown}")
    after = {name: pid_of(gateway.show(name)) for name in CALLS}
    if [name for name in CALLS if before[name] != after[name]] != [plugin]:
        raise Refused(f"a reload of {plugin} replaced other processes: {before}, then {after}")
    check_call(gateway, plugin, repository)
    deadline = time.monotonic() + WAIT_SECONDS
    while alive(before[plugin]):
        if time.monotonic() > deadline:
            raise Refused(f"the process that served {plugin} before its reload goes on")
        time.sleep(0.05)


def kill_and_wait(gateway, plugin):
    """Kills the server's process; gives the plugin once another one serves."""
    before = pid_of(gateway.wait_for(plugin))
    os.kill(before, signal.SIGKILL)
    gateway.wait_for(
        plugin,
        lambda shown: shown["state"] in ("ready", "degraded")
        and shown["report"]["speaker"]
        and pid_of(shown) != before,
    )


def descendants(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in found] + [below for child in found for below in descendants(int(child))]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main():
    program, tools = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    gateway = Gateway(program)
    home = Path(gateway.folder.name)
    shared, repository = home / "shared", home / "repository"
    shared.mkdir()
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    config = home / "claude_desktop_config.json"
    config.write_text(json.dumps(claude_config(tools, shared)))
    say("import three servers, and start")
    gateway.run("plugins", "import", str(config))
    with gateway:
        gateway.wait_for("time")
        say("add three more to the running server")
        add(gateway, tools, repository)
        for plugin in CALLS:
            gateway.wait_for(plugin)
        listed = gateway.list_tools()
        for plugin in CALLS:
            count = sum(name.startswith(f"{plugin}__") for name in listed)
            say(f"{plugin}: {count} tools")
            if not count:
                raise Refused(f"no tool of {plugin} is listed")
            check_call(gateway, plugin, repository)
        say("reload: nothing changed, nothing restarted")
        before = {plugin: pid_of(gateway.show(plugin)) for plugin in CALLS}
        answer = json.loads(gateway.run("plugins", "reload", "--json"))
        if answer["added"] or answer["removed"] or answer["changed"] or answer["failed"]:
            raise Refused(f"a reload of nothing says {answer}")
        if before != {plugin: pid_of(gateway.show(plugin)) for plugin in CALLS}:
            raise Refused("a reload of nothing restarted a server")
        for plugin in CALLS:
            say(f"change {plugin} and reload: it is replaced, and no other")
            reload_changed(gateway, plugin, repository)
        for plugin in CALLS:
            say(f"kill {plugin}, and call it again")
            kill_and_wait(gateway, plugin)
            check_call(gateway, plugin, repository)
        say("kill Waygate: no process of it is left")
        left = descendants(gateway.process.pid)
        if len(left) < len(CALLS):
            raise Refused(f"{len(left)} processes below Waygate are fewer than its plugins")
        gateway.process.kill()
        gateway.process.wait()
        deadline = time.monotonic() + WAIT_SECONDS
        while any(alive(pid) for pid in left):
            if time.monotonic() > deadline:
                raise Refused(f"left behind: {[pid for pid in left if alive(pid)]}")
            time.sleep(0.05)
    print("real servers: passed")


if __name__ == "__main__":
    try:
        main()
    except Refused as refusal:
        print(f"real servers: {refusal}", file=sys.stderr)
        sys.exit(1)
