// What is refused over HTTP before the protocol begins, and what an answer says beside it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { bound, connect, NAME } from './connect.mjs';

const message = (method, params = {}) => JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });

async function post(config, headers, body) {
    const accept = { Accept: 'application/json, text/event-stream', 'Content-Type': 'application/json' };
    const response = await fetch(new URL('/mcp', config.base), { method: 'POST', headers: { ...accept, ...headers }, body });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, json: text ? JSON.parse(text) : null };
}

function problem(reply, status, code) {
    assert.deepEqual([reply.status, reply.json.code], [status, code], reply.text);
    assert.equal(reply.headers.get('content-type'), 'application/problem+json');
    assert.ok(reply.headers.get('x-request-id'));
    return reply.json;
}

export const http = {
    async 'who may not come in is told so before the protocol begins'({ config, target }) {
        const good = bound(config, target.project, randomUUID());
        const list = message('tools/list');
        const without = (name) => Object.fromEntries(Object.entries(good).filter(([key]) => key !== name));
        assert.equal((await post(config, good, list)).status, 200);
        problem(await post(config, without('X-Internal-API-Key'), list), 401, 'unauthorized');
        assert.equal(problem(await post(config, without('Treehold-Project'), list), 400, 'bad_header').header, 'Treehold-Project');
        assert.equal(problem(await post(config, without('Treehold-User'), list), 400, 'bad_header').header, 'Treehold-User');
        problem(await post(config, { ...good, 'Treehold-User': 'ann' }, list), 400, 'bad_header');
        problem(await post(config, { ...good, Origin: 'http://127.0.0.1:3001' }, list), 403, 'origin_not_allowed');
        problem(await post(config, { ...good, Origin: 'null' }, list), 403, 'origin_not_allowed');
        problem(await post(config, { ...good, 'Content-Type': 'text/plain' }, list), 415, 'unsupported_media_type');
        problem(await post(config, { ...good, Accept: 'text/html' }, list), 406, 'bad_mcp_request');
        problem(await post(config, good, Buffer.alloc((16 << 20) + 1, 32)), 413, 'too_large');
        for (const method of ['GET', 'DELETE', 'PUT']) {
            const response = await fetch(new URL('/mcp', config.base), { method, headers: good });
            assert.deepEqual([response.status, response.headers.get('allow')], [405, 'POST'], method);
        }
    },

    async 'what is no message is refused, and the server lives on'({ config, target }) {
        const good = bound(config, target.project, randomUUID());
        for (const body of ['', '{', '[]', 'null', '{"jsonrpc":"1.0"}', '{"jsonrpc":"2.0","id":1,"method":7}', '\u0000']) {
            const reply = await post(config, good, body).catch((error) => ({ status: 400, text: String(error) }));
            assert.ok(reply.status >= 400 && reply.status < 500, `${JSON.stringify(body)}: ${reply.status} ${reply.text}`);
        }
        const unknown = await post(config, good, message('no/such'));
        assert.equal(unknown.json.error.code, -32601);
    },

    async 'there is no session to lose: every request can be answered by any server'({ config, target }) {
        const user = randomUUID();
        const good = bound(config, target.project, user);
        const hello = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'hand\u200ewritten', version: '1' } };
        const begun = await post(config, good, message('initialize', hello));
        assert.equal(begun.json.result.protocolVersion, '2025-06-18');
        const session = begun.headers.get('mcp-session-id');
        const write = message('tools/call', { name: 'write_file', arguments: { path: 'by-hand.txt', content: 'x\n' } });
        for (const id of [session, undefined, 'nonsense']) {
            const headers = { ...good, 'Treehold-User': randomUUID(), ...(id && { 'Mcp-Session-Id': id }) };
            assert.equal((await post(config, headers, write)).json.result.isError, false);
            const url = `${config.base}/pending/${target.project}/${headers['Treehold-User']}`;
            const [change] = (await (await fetch(url, { headers: good })).json()).changes;
            assert.equal(change.actor, id === session ? 'agent:handwritten' : 'agent');
            assert.equal(Boolean(change.session), id === session);
        }
    },

    async 'a client of the newest protocol begins with any request, and says in each who it is'({ config, target }) {
        const user = randomUUID();
        const version = '2026-07-28';
        const key = 'io.modelcontextprotocol';
        const _meta = {
            [`${key}/protocolVersion`]: version,
            [`${key}/clientInfo`]: { name: 'newest', version: '1' },
            [`${key}/clientCapabilities`]: {},
        };
        const send = (method, params, name) => {
            const told = { 'MCP-Protocol-Version': version, 'Mcp-Method': method, ...(name && { 'Mcp-Name': name }) };
            return post(config, { ...bound(config, target.project, user), ...told }, message(method, { ...params, _meta }));
        };
        const found = (await send('server/discover', {})).json.result;
        assert.ok(found.supportedVersions.includes(version) && found.capabilities.tools, JSON.stringify(found));
        const saved = await send('tools/call', { name: 'write_file', arguments: { path: 'newest.txt', content: 'x\n' } }, 'write_file');
        assert.equal(saved.json.result.structuredContent.status, 'applied', saved.text);
        const url = `${config.base}/pending/${target.project}/${user}`;
        const [change] = (await (await fetch(url, { headers: bound(config, target.project, user) })).json()).changes;
        assert.equal(change.actor, 'agent:newest');
        const uri = `treehold://${target.project}/newest.txt`;
        const { result } = (await send('resources/read', { uri }, uri)).json;
        assert.deepEqual([result.contents[0].text, result.cacheScope], ['x\n', 'private']);
        const lied = { 'MCP-Protocol-Version': version, 'Mcp-Method': 'tools/list' };
        const call = message('tools/call', { name: 'status', _meta });
        assert.equal((await post(config, { ...bound(config, target.project, user), ...lied }, call)).status, 400);
        // Whoever names an older version, or none, is given a place by the same header.
        const listen = { ...bound(config, target.project, user), 'Mcp-Method': 'subscriptions/listen' };
        for (const old of [{}, { 'MCP-Protocol-Version': '2025-06-18' }]) {
            const reply = await post(config, { ...listen, ...old }, message('tools/call', { name: 'status', arguments: {} }));
            assert.deepEqual([reply.status, reply.json.id, reply.json.error.code], [400, 1, -32020], reply.text);
        }
        // What a stream takes is held as long as it lasts.
        assert.equal(problem(await post(config, listen, Buffer.alloc((256 << 10) + 1, 32)), 413, 'too_large').limit, 256 << 10);
    },

    async 'a caller that hangs up ends its reads, and the server lives on'({ config, target }) {
        const headers = { ...bound(config, target.project, randomUUID()), Accept: 'application/json, text/event-stream', 'Content-Type': 'application/json' };
        const body = message('tools/call', { name: 'search', arguments: { query: '(a|e|i)+.*(o|u)+', regex: true, context: 10 } });
        const calls = Array.from({ length: 12 }, async (_, number) => {
            const abort = new AbortController();
            setTimeout(() => abort.abort(), number);
            return fetch(new URL('/mcp', config.base), { method: 'POST', headers, body, signal: abort.signal }).then((r) => r.text());
        });
        await Promise.allSettled(calls);
        assert.equal((await post(config, headers, message('tools/list'))).status, 200);
    },

    async 'headers say whose edits they are'({ config, target, onEnd }) {
        const user = randomUUID();
        const headers = { 'Treehold-Session': 's-1', 'Treehold-Device': 'laptop' };
        const agent = await connect(config, 'http', target.project, user, { headers });
        onEnd(agent.close);
        await agent.ok('write_file', { path: 'origin.txt', content: 'x\n' });
        const url = `${config.base}/pending/${target.project}/${user}`;
        const [change] = (await (await fetch(url, { headers: bound(config, target.project, user) })).json()).changes;
        assert.deepEqual([change.actor, change.session, change.device], [`agent:${NAME}`, 's-1', 'laptop']);
    },

    async 'a client of the newest protocol hears in a stream what changes'({ config, target }) {
        const user = randomUUID();
        const good = bound(config, target.project, user);
        const key = 'io.modelcontextprotocol';
        const _meta = {
            [`${key}/protocolVersion`]: '2026-07-28',
            [`${key}/clientInfo`]: { name: 'newest', version: '1' },
            [`${key}/clientCapabilities`]: {},
        };
        const uri = (path) => `treehold://${target.project}/${path}`;
        const asked = { resourceSubscriptions: [uri(''), uri('streamed.txt'), 'treehold://other/'] };
        const abort = new AbortController();
        const response = await fetch(new URL('/mcp', config.base), {
            method: 'POST',
            headers: {
                ...good, Accept: 'application/json, text/event-stream', 'Content-Type': 'application/json',
                'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': 'subscriptions/listen',
            },
            body: message('subscriptions/listen', { notifications: asked, _meta }),
            signal: abort.signal,
        });
        assert.match(response.headers.get('content-type'), /^text\/event-stream/, `${response.status}`);
        const heard = [];
        const reading = (async () => {
            let text = '';
            for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
                text += chunk;
                const lines = text.split('\n');
                text = lines.pop();
                for (const line of lines.filter((line) => /^data: *\{/.test(line))) heard.push(JSON.parse(line.slice(5)));
            }
        })().catch(() => {});
        const until = async (count) => {
            for (let round = 0; round < 200 && heard.length < count; round += 1) await new Promise((done) => setTimeout(done, 50));
            assert.ok(heard.length >= count, JSON.stringify(heard));
        };
        await until(3);
        assert.deepEqual(heard[0].params.notifications.resourceSubscriptions, [uri(''), uri('streamed.txt')]);
        const uris = (from) => new Set(heard.slice(from).map((one) => one.params.uri));
        assert.deepEqual(uris(1), new Set([uri(''), uri('streamed.txt')]), 'each at once, as it may have changed before');
        const save = (path) => fetch(`${config.base}/pending/${target.project}/${user}/${path}`, { method: 'PUT', headers: good, body: 'x\n' });
        const before = heard.length;
        assert.equal((await save('other.txt')).status, 201);
        await until(before + 1);
        assert.deepEqual(uris(before), new Set([uri('')]));
        const then = heard.length;
        assert.equal((await save('streamed.txt')).status, 201);
        await until(then + 2);
        assert.deepEqual(uris(then), new Set([uri(''), uri('streamed.txt')]));
        abort.abort();
        await reading;
        assert.equal((await post(config, good, message('tools/list'))).status, 200);
    },
};
