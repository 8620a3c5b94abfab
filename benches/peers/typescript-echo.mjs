// The peer of `scripts/bench`: one echo tool on the TypeScript SDK, v2, stateless, answering in JSON.
//
// Set up as fast as the SDK allows without changing it: one process, Node's own HTTP server, no event streams.

import { createServer } from "node:http";

import { toNodeHandler } from "@modelcontextprotocol/node";
import { McpServer, createMcpHandler } from "@modelcontextprotocol/server";
import { z } from "zod";

const port = Number(process.argv[process.argv.indexOf("--port") + 1]);
const input = z.object({ message: z.string() });

const handler = createMcpHandler(
  () => {
    const server = new McpServer({ name: "echo", version: "1.0.0" });
    const says = { description: "Gives back the message it is given", inputSchema: input };
    server.registerTool("echo", says, ({ message }) => ({ content: [{ type: "text", text: message }] }));
    return server;
  },
  { responseMode: "json" },
);

createServer(toNodeHandler(handler)).listen(port, "127.0.0.1");
