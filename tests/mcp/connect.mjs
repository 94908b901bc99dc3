// Clients of the official SDK, on either transport. All that they know of Treehold is where it is.
import assert from 'node:assert/strict';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

export const NAME = 'mcp-tests';

/** The headers that bind a request. */
export const bound = (config, project, user, more = {}) => ({
    'X-Internal-API-Key': config.key,
    'Treehold-Project': project,
    'Treehold-User': user,
    'Treehold-Author': 'Ann <ann@example.org>',
    'X-Remote-Token': config.token,
    ...more,
});

/** A connected client, bound to a project and a user. */
export async function connect(config, transport, project, user, { flags = [], headers = {} } = {}) {
    const client = new Client({ name: NAME, version: '1' });
    const channel =
        transport === 'http'
            ? new StreamableHTTPClientTransport(new URL('/mcp', config.base), {
                  requestInit: { headers: bound(config, project, user, headers) },
              })
            : new StdioClientTransport({
                  command: config.command,
                  args: ['mcp', '--project', project, '--user', user, '--commit-author', 'Ann <ann@example.org>', ...flags],
                  env: config.env,
              });
    await client.connect(channel);
    // From here on the SDK checks each answer against the tool's output schema.
    const { tools } = await client.listTools();
    const call = (name, args = {}, options) => client.callTool({ name, arguments: args }, undefined, options);
    return {
        client,
        tools,
        channel,
        raw: call,
        /** The structured answer of a call that must succeed. */
        async ok(name, args, options) {
            const result = await call(name, args, options);
            assert.ok(!result.isError, `${name}: ${result.content[0].text}`);
            return result.structuredContent;
        },
        /** The text of a call that must succeed. */
        async text(name, args) {
            const result = await call(name, args);
            assert.ok(!result.isError, `${name}: ${result.content[0].text}`);
            assert.equal(result.content.length, 1);
            return result.content[0].text;
        },
        /** The problem of a call that must be refused with this code. */
        async refused(name, args, code) {
            const result = await call(name, args);
            assert.ok(result.isError, `${name} was not refused: ${result.content[0].text}`);
            const problem = result._meta['treehold/problem'];
            assert.equal(problem.code, code, result.content[0].text);
            assert.ok(result.content[0].text.startsWith(`${code}: `), result.content[0].text);
            return { ...problem, text: result.content[0].text };
        },
        /** All pages of a tool. */
        async pages(name, args, most = 10_000) {
            const pages = [];
            let cursor;
            do {
                const { structuredContent: page, content, isError } = await call(name, { ...args, ...(cursor && { cursor }) });
                assert.ok(!isError, content[0].text);
                cursor = page.next_cursor ?? undefined;
                assert.equal(content[0].text.includes('for the rest.]'), cursor !== undefined, 'the text says what is missing');
                pages.push(page);
                assert.ok(pages.length < most, `${name} does not come to an end`);
            } while (cursor);
            return pages;
        },
        close: () => client.close(),
    };
}
