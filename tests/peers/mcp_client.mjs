// The official MCP client against a server: node mcp_client.mjs ERA URL | ERA COMMAND ARG...
// ERA: legacy | modern. Lists tools, calls them, answers a question; prints what it got as JSON.
// Started by tests/e2e/test_stand_ins.py, which says where the packages are (MODULES).
import { pathToFileURL } from 'node:url';
const from = (p) => import(pathToFileURL(`${process.env.MODULES}/@modelcontextprotocol/client/dist/${p}`));
const { Client, StreamableHTTPClientTransport } = await from('index.mjs');
const { StdioClientTransport } = await from('stdio.mjs');

const [era, target, ...args] = process.argv.slice(2);
const progress = [];
const versionNegotiation = era === 'modern' ? { mode: { pin: '2026-07-28' } } : { mode: 'legacy' };
const client = new Client({ name: 'test', version: '1' }, { capabilities: { elicitation: { form: {} } }, versionNegotiation });
client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { answer: 'blue' } }));
await client.connect(target.startsWith('http')
    ? new StreamableHTTPClientTransport(new URL(target))
    : new StdioClientTransport({ command: target, args }));
const call = async (name, input, options) => {
    try {
        const r = await client.callTool({ name, arguments: input }, options);
        return { text: r.content[0].text, error: r.isError === true, structured: r.structuredContent };
    } catch (e) {
        return { thrown: e.message };
    }
};
console.log(JSON.stringify({
    version: client.getNegotiatedProtocolVersion(),
    tools: (await client.listTools()).tools.map((t) => t.name),
    echo: await call('echo', { text: 'ho' }),
    add: await call('add', { a: 2, b: 3 }),
    fail: await call('fail', { text: 'no' }),
    slow: await call('slow', { steps: 3, ms: 5 }, { onprogress: (p) => progress.push(p.progress) }),
    progress,
    ask: await call('ask', { question: 'Which colour?' }),
    unknown: await call('no_such_tool', {}),
}));
await client.close();
