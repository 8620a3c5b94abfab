"""An MCP server that misbehaves as it is told: what the tests of faulty servers put behind Waygate.

    hostile_server.py MODE [ARGUMENT]

It must not be clever: each mode and each tool does the one thing that its name says. The mode says how it starts and
lists; the tools say what a call meets. It speaks 2025-11-25, or 2026-07-28 where ARGUMENT names a file that says "modern".
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

MODE = sys.argv[1]
ARGUMENT = sys.argv[2] if len(sys.argv) > 2 else ""
LEGACY, MODERN = "2025-11-25", "2026-07-28"
FOREVER = 3600
WRITING = threading.Lock()
# Modes with resources and prompts; of them, "watched" lets them be subscribed to, and completes.
SHELVES = ("pages", "shelf", "watched")
LONG_NAME = "an odd one/" + "x" * 100
SUBSCRIBED = set()
# The calls that hang, by their ids, under the names that they brought; and the names of those that were cancelled.
HANGING = {}
CANCELLED = []
# What Waygate answered to what was asked of it, by the id that was asked with.
ANSWERS = {}
ANSWERED = threading.Condition()


def write(line):
    with WRITING:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


def say(message):
    write(json.dumps({"jsonrpc": "2.0", **message}).encode())


def answer(ask, result):
    say({"id": ask["id"], "result": result})


def text(ask, text):
    answer(ask, {"content": [{"type": "text", "text": str(text)}], "resultType": "complete"})


def ask_back(method, params):
    """Asks Waygate something, and gives its answer."""
    own = f"own-{method}-{time.monotonic_ns()}"
    say({"id": own, "method": method, "params": params})
    with ANSWERED:
        ANSWERED.wait_for(lambda: own in ANSWERS, timeout=10)
        return ANSWERS.pop(own, None)


def tool_say(ask, arguments):
    text(ask, arguments.get("text", "said"))


def tool_pid(ask, arguments):
    text(ask, os.getpid())


def tool_sleep(ask, arguments):
    time.sleep(arguments.get("ms", 0) / 1000)
    text(ask, "slept")


def tool_hang(ask, arguments):
    HANGING[ask["id"]] = arguments.get("name")
    time.sleep(FOREVER)


def tool_hanging(ask, arguments):
    """Says which calls hang, and which of them were cancelled."""
    text(ask, json.dumps({"hanging": sorted(filter(None, HANGING.values())), "cancelled": CANCELLED}))


def tool_endless_line(ask, arguments):
    """Writes one line for as long as it is read."""
    with WRITING:
        sys.stdout.buffer.write(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % ask["id"])
        while True:
            sys.stdout.buffer.write(b"x" * 65536)


def tool_die(ask, arguments):
    os._exit(3)


def tool_garbage(ask, arguments):
    write(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{{{' % ask["id"])


def tool_nonsense(ask, arguments):
    answer(ask, {"content": "no list"})


def tool_no_result(ask, arguments):
    say({"id": ask["id"]})


def tool_wrong_id(ask, arguments):
    say({"id": ask["id"] + 1_000_000, "result": {"content": []}})
    say({"id": str(ask["id"]), "result": {"content": []}})


def tool_twice(ask, arguments):
    text(ask, "first")
    text(ask, "second")


def tool_late(ask, arguments):
    time.sleep(1.2)
    text(ask, "late")


def tool_long_line(ask, arguments):
    text(ask, "x" * arguments["bytes"])


def tool_not_utf8(ask, arguments):
    write(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\xff\xfe"}]}}' % ask["id"])


def tool_leak(ask, arguments):
    say({"id": ask["id"], "error": {"code": -32050, "message": "no access with " + os.environ["TOKEN"]}})


def tool_error(ask, arguments):
    data = {"sectors": 123456789012345678901234567890, "advice": "buy another one"}
    say({"id": ask["id"], "error": {"code": -32050, "message": "the disk is full", "data": data}})


def tool_ask(ask, arguments):
    """Asks for what it was given no capability for, and says what it was answered."""
    params = {
        "elicitation/create": {"message": "Password?", "requestedSchema": {"type": "object", "properties": {}}},
        "sampling/createMessage": {"messages": [], "maxTokens": 1},
    }.get(arguments["method"], {})
    text(ask, json.dumps(ask_back(arguments["method"], params)))


def tool_fork(ask, arguments):
    """Starts a child in a session of its own that nobody waits for."""
    child = subprocess.Popen(["sleep", str(FOREVER)], start_new_session=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    text(ask, child.pid)


def tool_close_stdin(ask, arguments):
    text(ask, "closing")
    os.close(0)


def tool_fill_stderr(ask, arguments):
    for line in range(arguments["lines"]):
        sys.stderr.write(f"line {line} " + "x" * 200 + "\n")
    sys.stderr.write("y" * 1_000_000 + "\n")
    sys.stderr.flush()
    text(ask, "filled")


def tool_link(ask, arguments):
    """Names two resources: one that no list has, and one that it brings along."""
    answer(ask, {"content": [{"type": "resource_link", "uri": "linked://1", "name": "linked"},
                             {"type": "resource", "resource": {"uri": "note://1", "text": "brought"}}]})


def tool_touch(ask, arguments):
    """Tells of a change of the resource, whether anybody asked for it or not."""
    say({"method": "notifications/resources/updated", "params": {"uri": arguments["uri"]}})
    text(ask, json.dumps(sorted(SUBSCRIBED)))


def tool_echo(ask, arguments):
    """Says on its way what the client's words are, byte for byte, and gives back the whole request."""
    meta = ask["params"].get("_meta", {})
    odd = '"x-own":1.50,"_meta":{"a/b":123456789012345678901234567890,"io.modelcontextprotocol/x":1}'
    if "progressToken" in meta:
        said = '{"progressToken":%s,"progress":1.0,%s}' % (json.dumps(meta["progressToken"]), odd)
        write(b'{"jsonrpc":"2.0","method":"notifications/progress","params":%s}' % said.encode())
    said = '{"level":"error","data":{"big":123456789012345678901234567890},%s}' % odd
    write(b'{"jsonrpc":"2.0","method":"notifications/message","params":%s}' % said.encode())
    # What belongs to no request by its words comes another way than the result, which must not overtake it.
    time.sleep(0.3)
    text(ask, json.dumps(ask["params"]))


TOOLS = {name[5:]: tool for name, tool in list(globals().items()) if name.startswith("tool_")}


def definition(name, **more):
    return {"name": name, "description": f"Does {name}", "inputSchema": {"type": "object"}, **more}


def listed():
    tools = [definition(name) for name in TOOLS]
    if MODE == "odd_names":
        tools = [definition(name) for name in ("a/b/c", "x" * 300, "grüße", "say")]
    elif MODE == "two_of_one":
        tools = [definition("say"), definition("say", title="Another"), definition("pid")]
    elif MODE == "remote_ref":
        tools = [definition("say", inputSchema={"type": "object", "properties": {"text": {"$ref": ARGUMENT}}}),
                 definition("pid")]
    elif MODE == "secretive":
        pin = {"type": "object", "properties": {"pin": {"writeOnly": True}, "below": {"$ref": "#/$defs/pin"}}}
        code = {"type": "string", "format": "password"}
        properties = {"text": {"type": "string"}, "chain": {"$ref": "#/$defs/pin"}, "codes": {"items": code}}
        schema = {"type": "object", "properties": properties, "$defs": {"pin": pin}}
        tools = [definition("say", inputSchema=schema)]
    return {"tools": tools}


def list_tools(ask):
    if MODE == "endless":
        at = int(ask["params"].get("cursor", 0))
        first = {**definition("say")} if at == 0 else definition(f"tool_{at}")
        answer(ask, {"tools": [first], "nextCursor": str(at + 1), "resultType": "complete"})
    elif MODE == "same_cursor":
        answer(ask, {"tools": [definition("say")], "nextCursor": "again"})
    elif MODE == "pages":
        list_page(ask, "tools", listed()["tools"])
    else:
        answer(ask, {**listed(), "resultType": "complete", "ttlMs": 0, "cacheScope": "private"})


def list_page(ask, member, entries):
    """Two entries a page where the mode says so, else all of them."""
    size = 2 if MODE == "pages" else len(entries)
    at = int(ask.get("params", {}).get("cursor", 0))
    more = {"nextCursor": str(at + size)} if at + size < len(entries) else {}
    answer(ask, {member: entries[at:at + size], **more})


def shelf(ask):
    """Lists and reads of the modes that have resources and prompts."""
    method, params = ask["method"], ask.get("params", {})
    if method == "resources/list":
        list_page(ask, "resources", [{"uri": f"note://{number}", "name": f"note {number}"} for number in range(5)])
    elif method == "resources/templates/list":
        templates = [{"uriTemplate": f"item{number}://{{id}}", "name": f"item {number}"} for number in range(5)]
        list_page(ask, "resourceTemplates", templates)
    elif method == "prompts/list":
        long = [{"name": LONG_NAME}] if MODE == "watched" else []
        list_page(ask, "prompts", [{"name": f"prompt_{number}"} for number in range(5)] + long)
    elif method == "resources/read":
        answer(ask, {"contents": [{"uri": params["uri"], "text": "text of " + params["uri"]}]})
    elif method == "completion/complete" and MODE == "watched":
        # It completes everything by what it was asked about.
        named = params["ref"].get("name", params["ref"].get("uri"))
        answer(ask, {"completion": {"values": [named, params["argument"]["value"]]}})
    elif method == "resources/subscribe":
        SUBSCRIBED.add(params["uri"])
        if MODE != "watched":
            return False
        answer(ask, {})
    elif method == "resources/unsubscribe" and MODE == "watched":
        SUBSCRIBED.discard(params["uri"])
        answer(ask, {})
    else:
        return False
    return True


def call(ask):
    name, arguments = ask["params"]["name"], ask["params"].get("arguments", {})
    if MODE == "odd_names":
        return text(ask, name)
    TOOLS[name](ask, arguments)


def is_modern():
    return bool(ARGUMENT) and MODE == "era" and open(ARGUMENT).read().strip() == "modern"


def discover(ask):
    if not MODERN_NOW:
        return say({"id": ask["id"], "error": {"code": -32601, "message": "Method not found"}})
    answer(ask, {
        "resultType": "complete", "supportedVersions": [MODERN], "capabilities": {"tools": {}}, "ttlMs": 0,
        "cacheScope": "private", "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "hostile", "version": "2"}},
    })


def capabilities():
    more = {"resources": {"subscribe": MODE == "watched"}, "prompts": {}} if MODE in SHELVES else {}
    if MODE == "watched":
        more["completions"] = {}
    return {"tools": {"listChanged": True}, **more}


def initialize(ask):
    if MODERN_NOW:
        error = {"code": -32022, "message": "Unsupported protocol version", "data": {"supported": [MODERN]}}
        return say({"id": ask["id"], "error": error})
    answer(ask, {
        "protocolVersion": LEGACY, "capabilities": capabilities(),
        "serverInfo": {"name": "hostile", "version": "1"},
    })


def take(ask):
    method = ask.get("method")
    if method is None:
        with ANSWERED:
            ANSWERS[ask["id"]] = ask.get("result", ask.get("error"))
            ANSWERED.notify_all()
    elif "id" not in ask:
        if method == "notifications/initialized" and MODE == "changes_for_ever":
            threading.Thread(target=change_for_ever, daemon=True).start()
        if method == "notifications/cancelled":
            CANCELLED.append(HANGING.pop(ask["params"]["requestId"], "nothing that hangs"))
    elif method == "server/discover":
        discover(ask)
    elif method == "initialize":
        initialize(ask)
    elif method == "tools/list":
        list_tools(ask)
    elif method == "tools/call" and ask["params"]["name"] == "close_stdin":
        # Not beside the thread that reads it, which would go on reading.
        call(ask)
    elif method == "tools/call":
        threading.Thread(target=call, args=(ask,), daemon=True).start()
    elif method == "ping":
        answer(ask, {})
    elif MODE in SHELVES and shelf(ask):
        pass
    else:
        say({"id": ask["id"], "error": {"code": -32601, "message": "Method not found"}})


def change_for_ever():
    while True:
        say({"method": "notifications/tools/list_changed"})


MODERN_NOW = is_modern()
if MODE == "quits":
    sys.exit("no licence found")
if MODE == "mute":
    time.sleep(FOREVER)
if MODE == "babbles":
    for _line in sys.stdin:
        write(b"\xff\xfe}{ Segmentation fault <html>")
if MODE == "hangs_on_stop":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    for line in sys.stdin:
        take(json.loads(line))
except OSError:
    # Its stdin is closed, by itself: it stays, and answers nothing.
    time.sleep(FOREVER)
if MODE == "hangs_on_stop":
    time.sleep(FOREVER)
