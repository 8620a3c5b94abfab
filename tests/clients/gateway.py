"""Waygate on a data folder of its own, as a client of 2026-07-28 uses it over the socket in that folder. For the scripts
beside this one; uses the standard library alone."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAIT_SECONDS = 60
REVISION = "2026-07-28"
ROUNDS_MAX = 5


class OverSocket(http.client.HTTPConnection):
    """HTTP over the socket in the data folder, where no key is needed and no header must repeat the body."""

    def __init__(self, path):
        super().__init__("localhost", timeout=WAIT_SECONDS)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Refused(Exception):
    """A request was answered with an error."""


class Gateway:
    """Waygate, which ends with the block."""

    def __init__(self, program, plugins=None):
        self.program, self.number = str(program), 0
        self.folder = tempfile.TemporaryDirectory()
        self.data = Path(self.folder.name) / "waygate"
        self.log = Path(self.folder.name) / "log"
        (self.data / "plugins").mkdir(parents=True, mode=0o700)
        for name, text in (plugins or {}).items():
            (self.data / "plugins" / f"{name}.toml").write_text(text)
        self.environment = {"PATH": os.environ["PATH"], "HOME": self.folder.name}
        self.process = None

    def __enter__(self):
        command = [self.program, "--env", "test", "--port", "0", "--data-dir", str(self.data)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder.name,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )
        return self

    def __exit__(self, failed, *_):
        self.process.terminate()
        self.process.wait(WAIT_SECONDS)
        if failed:
            sys.stderr.write(self.log.read_text(errors="replace"))
        self.folder.cleanup()

    def run(self, *arguments):
        """What a verb of the command line says."""
        command = [self.program, *arguments, "--env", "test", "--data-dir", str(self.data)]
        done = subprocess.run(command, env=self.environment, cwd=self.folder.name, capture_output=True, text=True)
        if done.returncode != 0:
            raise Refused(f"{' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def http(self, method, path, body=None, headers=None):
        """The status, the kind and the text of one answer."""
        connection = OverSocket(self.data / "data" / "waygate.sock")
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()

    def show(self, plugin):
        """`/plugins/{name}`, or nothing when there is no such plugin or no server yet."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _, text = self.http("GET", f"/plugins/{plugin}")
            return json.loads(text) if status == 200 else None
        return None

    def wait_for(self, plugin, until=lambda shown: shown["state"] in ("ready", "degraded")):
        """The plugin as it is shown, once it is as wanted."""
        deadline, shown = time.monotonic() + WAIT_SECONDS, None
        while time.monotonic() < deadline:
            shown = self.show(plugin)
            if shown and until(shown):
                return shown
            time.sleep(0.05)
        raise Refused(f"plugin {plugin} is not as wanted after {WAIT_SECONDS} s: {json.dumps(shown)}")

    def ask(self, method, params, path="/mcp"):
        """The result of one request."""
        self.number += 1
        meta = {
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
            "io.modelcontextprotocol/clientInfo": {"name": "gateway-script", "version": "1"},
        }
        request = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params | {"_meta": meta}}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": REVISION,
            "Mcp-Method": method,
        }
        _, kind, text = self.http("POST", path, json.dumps(request).encode(), headers)
        if kind.startswith("text/event-stream"):
            text = [line[6:] for line in text.splitlines() if line.startswith("data: {")][-1]
        message = json.loads(text)
        if "error" in message:
            raise Refused(f"{method} {params.get('name', '')}: {json.dumps(message['error'])}")
        return message["result"]

    def list_tools(self, path="/mcp"):
        """All tools, by name."""
        tools, cursor = {}, {}
        while True:
            page = self.ask("tools/list", cursor, path)
            tools |= {tool["name"]: tool for tool in page["tools"]}
            if "nextCursor" not in page:
                return tools
            cursor = {"cursor": page["nextCursor"]}

    def call(self, name, arguments, path="/mcp", between=None):
        """Calls a tool and answers whatever it asks; `between` is done before each answer."""
        params = {"name": name, "arguments": arguments}
        for _ in range(ROUNDS_MAX):
            result = self.ask("tools/call", params, path)
            if result.get("resultType") != "input_required":
                return result
            if between:
                between()
            answers = {key: answer(asked) for key, asked in result.get("inputRequests", {}).items()}
            params = {"name": name, "arguments": arguments}
            if answers:
                params["inputResponses"] = answers
            if "requestState" in result:
                params["requestState"] = result["requestState"]
        raise Refused(f"{name} asks without end")


def answer(asked):
    """What a willing user with no wishes of their own would answer."""
    if asked["method"] == "roots/list":
        return {"roots": []}
    if asked["method"] == "sampling/createMessage":
        return {"role": "assistant", "content": {"type": "text", "text": "yes"}, "model": "none"}
    fields = asked["params"].get("requestedSchema", {}).get("properties", {})
    content = {name: field.get("default", filler(field)) for name, field in fields.items()}
    return {"action": "accept", "content": content}


def filler(schema):
    """A value that fits a schema."""
    kinds = {"string": "x", "integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    return schema["enum"][0] if "enum" in schema else kinds.get(schema.get("type"), "x")


def arguments_of(tool):
    properties = tool["inputSchema"].get("properties", {})
    return {name: filler(properties.get(name, {})) for name in tool["inputSchema"].get("required", [])}
