// A server of MCP on standard input and output with one tool, `hello`, and nothing but Node: for the images' test.

const answers = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: "small", version: "1" },
  }),
  "tools/list": () => ({
    tools: [{ name: "hello", description: "Says hello", inputSchema: { type: "object" } }],
  }),
  "tools/call": () => ({ content: [{ type: "text", text: `hello from Node ${process.version}` }] }),
  ping: () => ({}),
};

require("node:readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const { id, method, params } = JSON.parse(line);
    if (id === undefined || method === undefined) return;
    const answer = answers[method];
    const said = answer ? { result: answer(params) } : { error: { code: -32601, message: "there is no such method" } };
    console.log(JSON.stringify({ jsonrpc: "2.0", id, ...said }));
  });
