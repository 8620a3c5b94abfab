"""The client leg of the conformance suite, against the side of Waygate that is a client: starts Waygate with the suite's
server as its one plugin, and uses that plugin as a client of 2026-07-28 would.

    MCP_CONFORMANCE_SCENARIO=… conformance_client.py <program of Waygate> <URL of the suite's server>

Ends with 0 when the scenario was gone through; the suite judges what its server saw.
"""

import json
import os
import sys

from gateway import Gateway, Refused, arguments_of

PLUGIN = "upstream"
PATH = f"/mcp/{PLUGIN}"
# The suite's tool that must not hear what another one asked.
UNRELATED = "test_mrtr_unrelated"


def main():
    program, url = sys.argv[1:3]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    with Gateway(program, {PLUGIN: f'kind = "mcp"\nurl = {json.dumps(url)}\n'}) as gateway:
        gateway.wait_for(PLUGIN)
        tools = gateway.list_tools(PATH)
        between = (lambda: gateway.call(UNRELATED, {}, PATH)) if UNRELATED in tools else None
        calls = context.get("toolCalls") or [
            {"name": name, "arguments": arguments_of(tool)} for name, tool in tools.items()
        ]
        for call in calls:
            # What is not given is left out: null fits no schema here.
            call["arguments"] = {key: value for key, value in call["arguments"].items() if value is not None}
            try:
                result = gateway.call(call["name"], call["arguments"], PATH, between)
                print(call["name"], json.dumps(result)[:300])
            except Refused as refusal:
                # Some of the suite's tools are there to be refused.
                print(call["name"], refusal)
        print(gateway.log.read_text(errors="replace"), file=sys.stderr)


if __name__ == "__main__":
    main()
