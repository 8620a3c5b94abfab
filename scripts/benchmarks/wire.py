"""What is said to a server: every one gets these bytes. Must not know processes."""

import json
import urllib.error
import urllib.request

from benchmarks.place import CannotMeasure

VERSION, SESSION_VERSION = "2026-07-28", "2025-11-25"
MESSAGE = "hello from the load generator"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "waygate-bench", "version": "1"},
}


def headers_of(method, name=None):
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": method,
    }
    return headers | ({"Mcp-Name": name} if name else {})


def body_of(method, params, meta=None):
    params = params | {"_meta": META | (meta or {})}
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return json.dumps(request, separators=(",", ":"))


CALL_HEADERS = headers_of("tools/call", "echo")
CALL = body_of("tools/call", {"name": "echo", "arguments": {"message": MESSAGE}})
STREAMED_CALL = body_of("tools/call", {"name": "echo", "arguments": {"message": MESSAGE}}, {"progressToken": "p"})
LISTEN = body_of("subscriptions/listen", {"notifications": {"toolsListChanged": True}})


def ask(port, path="/mcp", body=None, headers=None, seconds=5):
    """The status, headers and text of one answer."""
    data = None if body is None else body.encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.headers, refusal.read().decode(errors="replace")


def check_echo(name, port, body=CALL, kind="application/json"):
    """One call must come back with its message, as `kind`."""
    status, headers, text = ask(port, body=body, headers=CALL_HEADERS)
    given = headers.get("Content-Type", "")
    if status != 200 or MESSAGE not in text or not given.startswith(kind):
        raise CannotMeasure(f"{name} answers the call with {status} {given}: {text[:300]}")


def open_session(server, key=None):
    """The headers of a session of the newest revision that has them, with those of a key where one is needed."""
    params = {"protocolVersion": SESSION_VERSION, "capabilities": {}, "clientInfo": META["io.modelcontextprotocol/clientInfo"]}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    headers = {name: CALL_HEADERS[name] for name in ("Content-Type", "Accept")} | (key or {})
    status, answered, text = ask(server.port, server.path, body, headers)
    if status != 200:
        raise CannotMeasure(f"{server.name} opens no session: {status} {text[:200]}")
    return headers | {"MCP-Protocol-Version": SESSION_VERSION, "Mcp-Session-Id": answered["Mcp-Session-Id"]}


def legacy_call(tool, headers):
    """The call as revisions before 2026-07-28 have it; `headers` are what goes with it beside those of its body."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                       "params": {"name": tool, "arguments": {"message": MESSAGE}}}, separators=(",", ":"))
    return {"body": body, "headers": {key: CALL_HEADERS[key] for key in ("Content-Type", "Accept")} | headers}
