"""The peer of `scripts/bench`: one echo tool on FastMCP, stateless, answering in JSON.

Set up as fast as it allows without changing it: one process, uvloop and httptools, no sessions, no log of requests, no
structured copy of the answer beside its text.
"""

import argparse

from fastmcp import FastMCP

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--workers", type=int, choices=[1], required=True)
options = parser.parse_args()

server = FastMCP("echo")


@server.tool(output_schema=None)
async def echo(message: str) -> str:
    """Gives back the message it is given"""
    return message


server.run(
    transport="http",
    host="127.0.0.1",
    port=options.port,
    stateless_http=True,
    json_response=True,
    show_banner=False,
    log_level="ERROR",
    uvicorn_config={"access_log": False},
)
