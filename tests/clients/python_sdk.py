"""Drives the conformance server with the Python SDK, a client that was not written here: stateless and in sessions, over
Streamable HTTP, HTTP+SSE and stdio.

Run by scripts/python-sdk. Usage: python_sdk.py <url of the server> [<command of a server on stdio> ...]
Prints one line a way of connecting; ends with 0 only if everything held.
"""

import asyncio
import sys
import warnings

from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp_types import (
    CreateMessageResult,
    ElicitResult,
    Implementation,
    ListRootsResult,
    Root,
    TextContent,
)

PATIENCE = 20
# Sampling, roots and logging are deprecated, and served.
warnings.simplefilter("ignore")


class Ada:
    """A person with a name, a model and a folder, who notes what she is told."""

    def __init__(self):
        self.told = []
        self.steps = []

    async def elicit(self, context, params):
        fields = getattr(params, "requested_schema", None) or {}
        answers = {name: "Ada" for name in fields.get("properties", {})}
        return ElicitResult(action="accept", content=answers)

    async def sample(self, context, params):
        return CreateMessageResult(
            role="assistant", content=TextContent(type="text", text="Paris"), model="a-model", stop_reason="endTurn"
        )

    async def roots(self, context):
        return ListRootsResult(roots=[Root(uri="file:///home/ada", name="home")])

    async def log(self, params):
        self.told.append(str(params.data))

    async def message(self, message):
        self.told.append(repr(message))

    async def progress(self, progress, total, message):
        self.steps.append(progress)

    async def hears(self, what, again=None):
        """Waits until it was told; `again` makes it be told once more, for what nobody listened to is not repeated."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not any(what in told for told in self.told):
            assert asyncio.get_running_loop().time() < deadline, f"{what} was not told, only {self.told}"
            if again:
                await again()
            await asyncio.sleep(0.02)


def client(server, ada, mode, **more):
    return Client(
        server,
        mode=mode,
        client_info=Implementation(name="ada", version="1"),
        elicitation_callback=ada.elicit,
        sampling_callback=ada.sample,
        list_roots_callback=ada.roots,
        logging_callback=ada.log,
        message_handler=ada.message,
        **more,
    )


def text(result):
    return "\n".join(block.text for block in result.content if block.type == "text")


async def lists_calls_and_reads(c):
    tools = [tool.name for tool in (await c.list_tools()).tools]
    assert "test_simple_text" in tools and "test_sampling" in tools, tools
    assert any(prompt.name == "test_simple_prompt" for prompt in (await c.list_prompts()).prompts)
    assert any(str(one.uri) == "test://static-text" for one in (await c.list_resources()).resources)
    assert (await c.list_resource_templates()).resource_templates
    assert "simple text response" in text(await c.call_tool("test_simple_text", {}))
    assert (await c.call_tool("test_error_handling", {})).is_error
    assert (await c.call_tool("test_image_content", {})).content[0].mime_type == "image/png"
    contents = (await c.read_resource("test://template/123/data")).contents
    assert "123" in contents[0].text
    prompt = await c.get_prompt("test_prompt_with_arguments", {"arg1": "hello", "arg2": "world"})
    assert "hello" in prompt.messages[0].content.text
    try:
        await c.read_resource("test://nonexistent")
        raise AssertionError("a resource that is not there was read")
    except MCPError:
        pass


async def asks(c):
    assert "Paris" in text(await c.call_tool("test_sampling", {"prompt": "Where?"}))
    assert "Ada" in text(await c.call_tool("test_elicitation", {"message": "Who?"}))
    assert "/home/ada" in text(await c.call_tool("test_input_required_result_list_roots", {}))
    assert (await c.call_tool("test_input_required_result_multi_round", {})).content


async def tells(c, ada, session):
    await c.call_tool("test_tool_with_progress", {}, progress_callback=ada.progress)
    assert ada.steps == sorted(ada.steps) and ada.steps[-1] == 100, ada.steps
    if session:
        await c.send_ping()
        await c.set_logging_level("debug")
        await c.call_tool("test_tool_with_logging", {})
        await ada.hears("Tool processing data")
        await c.subscribe_resource("test://watched-resource")
        await ada.hears("test://watched-resource", lambda: c.call_tool("test_trigger_resource_update", {}))
        await ada.hears("tools/list_changed", lambda: c.call_tool("test_trigger_tool_change", {}))
        await c.unsubscribe_resource("test://watched-resource")
        return
    async with c.listen(resource_subscriptions=["test://watched-resource"]) as news:
        await c.call_tool("test_trigger_resource_update", {})
        event = await asyncio.wait_for(anext(aiter(news)), PATIENCE)
        assert "watched-resource" in str(event), event


async def drive(way, server, mode, elicits=True):
    ada = Ada()
    async with client(server, ada, mode) as c:
        await lists_calls_and_reads(c)
        if elicits:
            await asks(c)
        await tells(c, ada, session=mode == "legacy")
        version = c.protocol_version
    print(f"{way}, revision {version}: passed")


async def main():
    url, command = sys.argv[1], sys.argv[2:]
    await asyncio.wait_for(drive("Streamable HTTP, stateless", url, "2026-07-28"), 60)
    await asyncio.wait_for(drive("Streamable HTTP, discovering", url, "auto"), 60)
    await asyncio.wait_for(drive("Streamable HTTP, in a session", url, "legacy"), 60)
    await asyncio.wait_for(drive("HTTP+SSE, in a session", sse_client(url.removesuffix("/mcp") + "/sse"), "legacy"), 60)
    if command:
        program = StdioServerParameters(command=command[0], args=command[1:])
        await asyncio.wait_for(drive("stdio, stateless", program, "2026-07-28"), 60)
        await asyncio.wait_for(drive("stdio, in a session", program, "legacy"), 60)


asyncio.run(main())
