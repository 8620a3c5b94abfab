"""A server of MCP on standard input and output with one tool, `sleep`, and nothing but Python: for the images' test."""

import json
import sys
import time

TOOL = {
    "name": "sleep",
    "description": "Answers after a while",
    "inputSchema": {"type": "object", "properties": {"seconds": {"type": "number"}}},
}


def answer(method, params):
    if method == "initialize":
        about = {"name": "small", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        seconds = params.get("arguments", {}).get("seconds", 0)
        print(f"sleeps {seconds} s", file=sys.stderr, flush=True)
        time.sleep(seconds)
        return {"content": [{"type": "text", "text": f"Python slept {seconds} s"}]}
    return {} if method == "ping" else None


for line in sys.stdin:
    message = json.loads(line)
    if "method" not in message or "id" not in message:
        continue
    result = answer(message["method"], message.get("params", {}))
    said = {"result": result} if result is not None else {"error": {"code": -32601, "message": "there is no such method"}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}), flush=True)
