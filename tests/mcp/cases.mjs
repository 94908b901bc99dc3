// What holds on both transports. Each case has users of its own; the project and its remote are shared by the cases of a transport.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { connect, NAME } from './connect.mjs';
import { git, tree } from './git.mjs';

const READS = ['conflicts', 'diff', 'list_files', 'log', 'read_multiple_files', 'search', 'status'];
const WRITES = ['commit', 'delete_file', 'discard', 'edit', 'move_file', 'push', 'resolve', 'sync', 'write_file'];

const agent = async ({ config, target, onEnd }, user = randomUUID(), options) => {
    const connected = await connect(config, target.transport, target.project, user, options);
    onEnd(connected.close);
    return { ...connected, user };
};

const bytesOf = (file) => Buffer.from(file.content, file.encoding === 'base64' ? 'base64' : 'utf8');
const isText = (bytes) => Buffer.from(bytes.toString('utf8'), 'utf8').equals(bytes);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The files of the project's head that can be read, with their bytes. */
function committed(target) {
    const head = git(target.remote, 'rev-parse', 'main').toString().trim();
    const files = tree(target.remote, head).filter((file) => file.kind === 'blob');
    return { head, all: tree(target.remote, head), files, bytes: (file) => git(target.remote, 'cat-file', 'blob', file.oid) };
}

/** `sync` or `push`, past the protocol. */
async function remotely({ config, target }, verb) {
    const headers = { 'X-Internal-API-Key': config.key, 'X-Remote-Token': config.token, 'Content-Type': 'application/json' };
    const url = `${config.base}/projects/${target.project}/${verb}`;
    assert.equal((await fetch(url, { method: 'POST', headers, body: '{}' })).status, 200);
}

/** A save by another device of the same user, past the protocol. */
async function otherDevice({ config, target }, user, path, body) {
    const headers = { 'X-Internal-API-Key': config.key };
    const url = `${config.base}/pending/${target.project}/${user}/${encodeURIComponent(path)}`;
    const response = await fetch(url, { method: 'PUT', headers, body });
    assert.ok(response.ok, await response.text());
}

export const cases = {
    async 'a client learns what there is'(at) {
        const a = await agent(at);
        assert.deepEqual(a.tools.map((tool) => tool.name).sort(), [...READS, ...WRITES].sort());
        for (const tool of a.tools) {
            const { readOnlyHint, destructiveHint, idempotentHint, openWorldHint } = tool.annotations;
            assert.equal(readOnlyHint, READS.includes(tool.name), tool.name);
            assert.equal(openWorldHint, ['commit', 'push', 'sync'].includes(tool.name), tool.name);
            assert.equal(destructiveHint, ['write_file', 'delete_file', 'discard', 'resolve'].includes(tool.name), tool.name);
            assert.equal(typeof idempotentHint, 'boolean');
            assert.ok(tool.outputSchema && tool.description.length > 60);
        }
        assert.equal(a.client.getServerVersion().name, 'treehold');
        assert.match(a.client.getInstructions(), /pending/);
        await a.client.ping();
    },

    async 'what cannot be understood is refused, and the connection goes on'(at) {
        const a = await agent(at);
        await assert.rejects(() => a.raw('rm_rf'), (error) => error.code === -32602 && /unknown tool/.test(error.message));
        assert.match((await a.refused('search', {}, 'bad_arguments')).detail, /missing field `query`/);
        assert.match((await a.refused('search', { query: 'a', limit: -1 }, 'bad_arguments')).detail, /at `limit`/);
        assert.match((await a.refused('edit', { path: 'a', old_string: 'b' }, 'bad_arguments')).detail, /new_string/);
        assert.match((await a.refused('status', { user: randomUUID() }, 'bad_arguments')).detail, /unknown field `user`/);
        await a.refused('read_multiple_files', { paths: [] }, 'bad_arguments');
        await a.refused('read_multiple_files', { paths: Array(501).fill('a') }, 'bad_arguments');
        await a.refused('read_multiple_files', { paths: ['a'], cursor: 'x' }, 'bad_request');
        await a.refused('search', { query: '(', regex: true }, 'bad_regex');
        await a.refused('list_files', { globs: ['a{'] }, 'bad_glob');
        await a.refused('log', { ref: 'no/such' }, 'ref_not_found');
        await a.refused('commit', { message: 'Nothing' }, 'nothing_to_commit');
        await a.refused('delete_file', { path: 'no/such' }, 'file_not_found');
        await a.refused('discard', { path: 'no/such' }, 'nothing_pending');
        assert.ok((await a.ok('status')).head);
    },

    async 'lists come in pages, by globs and by directory'(at) {
        const a = await agent(at);
        const { head, all } = committed(at.target);
        const pages = await a.pages('list_files', { limit: 37 });
        assert.ok(pages.length > 3 && pages.every((page) => page.commit === head && page.entries.length <= 37));
        const entries = pages.flatMap((page) => page.entries);
        assert.deepEqual(entries.map((entry) => entry.path), all.map((file) => file.path));
        const kinds = { 100644: 'file', 100755: 'executable', 120000: 'link', 160000: 'submodule' };
        assert.deepEqual(entries.map((entry) => entry.kind), all.map((file) => kinds[file.mode]));
        const globbed = (await a.pages('list_files', { globs: ['*.md', '!/docs/'], limit: 3 })).flatMap((page) => page.entries);
        const expected = all.filter(({ path }) => path.endsWith('.md') && !path.startsWith('docs/'));
        assert.deepEqual(globbed.map((entry) => entry.path), expected.map((file) => file.path));
        for (const limit of [2, 5000]) {
            const top = (await a.pages('list_files', { depth: 1, limit })).flatMap((page) => page.entries);
            const names = [...new Set(all.map(({ path }) => (path.includes('/') ? `${path.split('/')[0]}/` : path)))];
            assert.deepEqual(top.map((entry) => entry.path), names);
            const count = top.reduce((sum, entry) => sum + (entry.files ?? 1), 0);
            assert.equal(count, all.length, 'no file is left out');
        }
    },

    async 'all bytes of all files come, whatever the budget, and bad paths fail alone'(at) {
        const a = await agent(at);
        const { files, bytes } = committed(at.target);
        const paths = files.slice(0, 480).map((file) => file.path);
        paths.splice(3, 0, 'no/such', 'src');
        const args = { paths, max_bytes: 150_000, include_binary: true };
        const pages = await a.pages('read_multiple_files', args);
        assert.ok(pages.length > 5);
        const parts = new Map();
        const order = [];
        for (const page of pages) {
            let size = 0;
            for (const file of page.files) {
                if (order.at(-1) !== file.path) order.push(file.path);
                if (file.error) continue;
                size += bytesOf(file).length;
                parts.set(file.path, Buffer.concat([parts.get(file.path) ?? Buffer.alloc(0), bytesOf(file)]));
            }
            assert.ok(size <= 150_000, `${size}`);
        }
        assert.deepEqual(order, paths, 'in the order asked for');
        for (const file of files.slice(0, 480)) assert.ok(parts.get(file.path).equals(bytes(file)), file.path);
        const failed = pages.flatMap((page) => page.files).filter((file) => file.error);
        assert.deepEqual(failed.map((file) => file.error.code), ['file_not_found', 'is_directory']);
    },

    async 'lines, refs, and what is no text'(at) {
        const a = await agent(at);
        const { files, bytes } = committed(at.target);
        const text = files.find((file) => isText(bytes(file)) && bytes(file).toString().split('\n').length > 6);
        const lines = bytes(text).toString().split(/(?<=\n)/);
        const read = await a.ok('read_multiple_files', { paths: [{ path: text.path, start_line: 2, end_line: 4 }], ref: 'main' });
        assert.equal(read.files[0].content, lines.slice(1, 4).join(''));
        const [own] = (await a.ok('read_multiple_files', { paths: [{ path: text.path, start_line: 2, end_line: 4 }] })).files;
        assert.deepEqual([own.content, own.total_lines, own.oid], [lines.slice(1, 4).join(''), lines.length, text.oid]);
        const binary = files.find((file) => !isText(bytes(file)));
        const [told] = (await a.ok('read_multiple_files', { paths: [binary.path] })).files;
        assert.deepEqual([told.binary, told.size, told.content], [true, bytes(binary).length, undefined]);
        const [whole] = (await a.ok('read_multiple_files', { paths: [binary.path], include_binary: true })).files;
        assert.ok(bytesOf(whole).equals(bytes(binary)));
        assert.match(await a.text('read_multiple_files', { paths: [binary.path] }), /not UTF-8/);
    },

    async 'a search finds what git grep finds, page by page'(at) {
        const a = await agent(at);
        const { head } = committed(at.target);
        const grep = (...args) => git(at.target.remote, 'grep', '-I', ...args, head).toString().split('\n').filter(Boolean);
        const expected = grep('-n', '-F', '-e', 'index').map((line) => line.slice(head.length + 1));
        const pages = await a.pages('search', { query: 'index', limit: Math.ceil(expected.length / 4) });
        assert.ok(pages.length >= 4);
        const found = pages.flatMap((page) => page.files.flatMap((file) => file.matches.map((m) => `${file.path}:${m.line}:${m.text}`)));
        assert.deepEqual(found, expected);
        const counted = (await a.pages('search', { query: 'the', count_only: true, limit: 50 })).flatMap((page) => page.files);
        assert.deepEqual(counted.map((file) => `${head}:${file.path}:${file.count}`), grep('-c', '-F', '-e', 'the'));
        const [first] = expected;
        assert.ok((await a.text('search', { query: 'index', limit: 1 })).startsWith(`${first.split(':')[0]}\n`));
    },

    async 'an edit replaces exact text, or says why not and changes nothing'(at) {
        const a = await agent(at);
        const saved = await a.ok('write_file', { path: 'edit.txt', content: 'one\r\ntwo\r\ntwo\r\n' });
        const missed = await a.refused('edit', { path: 'edit.txt', old_string: 'one\ntwo', new_string: 'x' }, 'no_match');
        assert.equal(missed.occurrences, 0);
        const many = await a.refused('edit', { path: 'edit.txt', old_string: 'two', new_string: 'x' }, 'ambiguous_match');
        assert.equal(many.occurrences, 2);
        await a.refused('edit', { path: 'edit.txt', old_string: '', new_string: 'x' }, 'bad_op');
        await a.refused('edit', { path: 'none.txt', old_string: 'a', new_string: 'x' }, 'file_not_found');
        const stale = { path: 'edit.txt', old_string: 'one', new_string: '1', expected_oid: '0'.repeat(39) + '1' };
        assert.equal((await a.refused('edit', stale, 'precondition_failed')).current_oid, saved.oid);
        await a.refused('edit', { ...stale, expected_oid: 'abc' }, 'bad_oid');
        await a.refused('edit', { path: 'edit.txt', old_string: 'two', new_string: 'x', executable: true }, 'ambiguous_match');
        await a.refused('edit', { path: 'edit.txt' }, 'bad_arguments');
        assert.equal((await a.ok('status')).revision, saved.revision, 'nothing was changed');
        await a.ok('edit', { path: 'edit.txt', old_string: 'one\r\n', new_string: '' , expected_oid: saved.oid });
        await a.ok('edit', { path: 'edit.txt', old_string: 'two', new_string: '2$&\\1', replace_all: true });
        const [file] = (await a.ok('read_multiple_files', { paths: ['edit.txt'] })).files;
        assert.deepEqual([file.content, file.pending], ['2$&\\1\r\n2$&\\1\r\n', true]);
        assert.match(await a.text('diff', { prefix: 'edit' }), /^created edit\.txt \+2 -0\n@@ -0,0 \+1,2 @@/);
    },

    async 'what was not read is not overwritten'(at) {
        const a = await agent(at);
        const path = 'note.txt';
        const first = await a.ok('write_file', { path, content: 'a\nb\nc\nd\ne\n' });
        assert.equal((await a.refused('write_file', { path, content: 'lost' }, 'precondition_failed')).current_oid, first.oid);
        await otherDevice(at, a.user, path, 'A\nb\nc\nd\ne\n');
        const mine = { path, content: 'a\nb\nc\nd\nE\n', expected_oid: first.oid };
        const refused = await a.refused('write_file', mine, 'precondition_failed');
        const merged = await a.ok('write_file', { ...mine, on_conflict: 'merge' });
        assert.equal(merged.status, 'merged');
        assert.notEqual(merged.oid, refused.current_oid);
        assert.equal((await a.ok('read_multiple_files', { paths: [path] })).files[0].content, 'A\nb\nc\nd\nE\n');
        const clash = { path, content: 'X\nb\nc\nd\ne\n', expected_oid: first.oid, on_conflict: 'merge' };
        const conflict = await a.refused('write_file', clash, 'conflict');
        assert.equal(conflict.base, first.oid);
        assert.equal(conflict.theirs, merged.oid);
        assert.ok(conflict.ours && conflict.version, 'what was sent is kept');
        await a.refused('write_file', { ...clash, overwrite: true }, 'bad_arguments');
        const { expected_oid, on_conflict, ...plain } = clash;
        assert.equal((await a.ok('write_file', { ...plain, overwrite: true })).status, 'applied');
        assert.equal((await a.ok('write_file', { ...plain, overwrite: true })).status, 'unchanged');
    },

    async 'files are written, moved and deleted, of any size and content'(at) {
        const a = await agent(at);
        const binary = Buffer.from([0, 255, 1, 254, 10, 13, 0]);
        await a.ok('write_file', { path: 'new/run', content: binary.toString('base64'), encoding: 'base64', executable: true });
        const [read] = (await a.ok('read_multiple_files', { paths: ['new/run'], include_binary: true })).files;
        assert.ok(bytesOf(read).equals(binary) && read.mode === '100755');
        const huge = Array.from({ length: 60_000 }, (_, line) => `line ${line} \u00e9\u{1f600}\n`).join('');
        const saved = await a.ok('write_file', { path: 'huge.txt', content: huge });
        assert.equal(saved.size, Buffer.byteLength(huge));
        const pages = await a.pages('read_multiple_files', { paths: ['huge.txt'], max_bytes: 300_001 });
        assert.ok(pages.length > 3 && pages.every((page) => Buffer.byteLength(page.files[0].content) <= 300_001));
        assert.equal(pages.map((page) => page.files[0].content).join(''), huge);
        const cut = await a.ok('diff', { prefix: 'huge' });
        assert.ok(cut.files[0].patch_truncated && Buffer.byteLength(cut.files[0].patch) <= 100_000);
        const tail = { path: 'huge.txt', start_line: 59_999 };
        assert.equal((await a.ok('read_multiple_files', { paths: [tail] })).files[0].content, huge.split(/(?<=\n)/).slice(-2).join(''));
        await a.ok('move_file', { from: 'huge.txt', path: 'big/huge.txt' });
        await a.refused('move_file', { from: 'new/run', path: 'big/huge.txt' }, 'file_exists');
        assert.equal((await a.ok('delete_file', { path: 'big/huge.txt' })).oid, null);
        await a.refused('delete_file', { path: 'big/huge.txt' }, 'file_not_found');
        // A deletion can be taken back before it is committed.
        const [there] = committed(at.target).files;
        await a.ok('delete_file', { path: there.path });
        await a.ok('discard', { path: there.path });
        assert.equal((await a.ok('read_multiple_files', { paths: [there.path], include_binary: true })).files[0].oid, there.oid);
        await a.refused('discard', { path: there.path }, 'nothing_pending');
        assert.deepEqual((await a.ok('status')).changes.map((change) => change.path), ['new/run']);
    },

    async 'hostile names are refused, and strange ones cannot pretend'(at) {
        const a = await agent(at);
        for (const path of ['', '/a', 'a/', 'a//b', '.', '../a', 'a/../b', '.git/config', 'a/.GIT/x', 'a\0b', 'x'.repeat(5000)]) {
            const result = await a.raw('write_file', { path, content: 'x' });
            assert.ok(result.isError, JSON.stringify(path));
            assert.ok(['bad_path', 'too_large'].includes(result._meta['treehold/problem'].code), result.content[0].text);
        }
        // What came by git may have such a name.
        const strange = 'strange/it "is"\n==> other.txt (1 bytes, oid 0)';
        assert.equal(await a.text('list_files', { prefix: 'strange/' }), `"${strange.replaceAll('"', '\\"').replace('\n', '\\n')}" (9 bytes)\n`);
        const [file] = (await a.ok('read_multiple_files', { paths: [strange] })).files;
        assert.deepEqual([file.path, file.content], [strange, 'strange!\n']);
        await a.ok('edit', { path: strange, old_string: 'strange', new_string: 'known' });
        const failed = await a.text('read_multiple_files', { paths: ['no\n==> such'] });
        assert.ok(failed.startsWith('==> "no\\n==> such"\n[file_not_found: '), failed);
        assert.equal((await a.ok('status')).changes_total, 1);
    },

    async 'a connection sees its own user and project, and nothing else'(at) {
        const [a, b] = [await agent(at), await agent(at)];
        const secret = `only-a-${randomUUID()}`;
        const saved = await a.ok('write_file', { path: 'private/a.txt', content: `${secret}\n` });
        const says = async (one, name, args) => JSON.stringify(await one.raw(name, args));
        const questions = [
            ['read_multiple_files', { paths: ['private/a.txt'] }],
            ['list_files', { prefix: 'private/' }],
            ['search', { query: secret }],
            ['status', {}],
            ['diff', {}],
            ['conflicts', { path: 'private/a.txt' }],
        ];
        for (const [name, args] of questions) {
            assert.ok(!(await says(b, name, args)).includes(saved.oid) && !(await says(b, name, args)).includes(`${secret}\\n`), name);
        }
        assert.ok((await says(a, 'search', { query: secret })).includes(`${secret}`));
        assert.equal((await b.ok('status')).changes_total, 0);
        await b.refused('edit', { path: 'private/a.txt', old_string: secret, new_string: 'x' }, 'file_not_found');
        await b.refused('delete_file', { path: 'private/a.txt' }, 'file_not_found');
        await b.refused('commit', { message: 'Not mine' }, 'nothing_to_commit');
        // What is in another project is not there.
        const { other } = at.config;
        const read = await a.ok('read_multiple_files', { paths: [other.path] });
        assert.equal(read.files[0].error.code, 'file_not_found');
        assert.equal((await a.ok('search', { query: other.content })).files.length, 0);
        for (const ref of [other.commit, other.blob]) await a.refused('read_multiple_files', { paths: ['x'], ref }, 'ref_not_found');
        await assert.rejects(() => a.client.readResource({ uri: `treehold://${other.project}/${other.path}` }));
        await assert.rejects(() => b.client.readResource({ uri: `treehold://${at.target.project}/private/a.txt` }));
    },

    async 'files are resources, too'(at) {
        const a = await agent(at);
        const { all, files, bytes } = committed(at.target);
        await a.ok('write_file', { path: 'res/ü 100%.txt', content: 'pending\n' });
        const { resourceTemplates } = await a.client.listResourceTemplates();
        assert.deepEqual(resourceTemplates.map((one) => one.uriTemplate), [`treehold://${at.target.project}/{+path}`]);
        const listed = [];
        let cursor;
        do {
            const page = await a.client.listResources({ cursor });
            assert.ok(page.resources.length <= 200);
            listed.push(...page.resources);
            cursor = page.nextCursor;
        } while (cursor);
        const [status] = listed.splice(0, 1);
        assert.deepEqual([status.uri, status.name], [`treehold://${at.target.project}/`, 'status']);
        const told = JSON.parse((await a.client.readResource({ uri: status.uri })).contents[0].text);
        assert.deepEqual(told, await a.ok('status'));
        assert.deepEqual(listed.map((one) => one.name).sort(), [...all.map((file) => file.path), 'res/ü 100%.txt'].sort());
        const uri = (path) => listed.find((one) => one.name === path).uri;
        const { contents } = await a.client.readResource({ uri: uri('res/ü 100%.txt') });
        assert.equal(contents[0].text, 'pending\n');
        const binary = files.find((file) => !isText(bytes(file)));
        const [blob] = (await a.client.readResource({ uri: uri(binary.path) })).contents;
        assert.ok(Buffer.from(blob.blob, 'base64').equals(bytes(binary)));
        await assert.rejects(() => a.client.readResource({ uri: `treehold://${at.target.project}/no/such` }), /no file at this path/);
        await a.ok('write_file', { path: 'res/large', content: 'x'.repeat((1 << 20) + 1) });
        await assert.rejects(() => a.client.readResource({ uri: `treehold://${at.target.project}/res/large` }), /read_multiple_files/);
    },

    async 'a commit is pushed, and is what git makes of it'(at) {
        const a = await agent(at);
        const before = committed(at.target);
        const path = `made/${at.target.transport}.txt`;
        await a.ok('write_file', { path, content: 'made by an agent\n' });
        await a.ok('write_file', { path: 'left.txt', content: 'not yet\n' });
        const args = { message: 'Let an agent work\n\nIt did.', paths: [path] };
        const dry = await a.ok('commit', { ...args, dry_run: true });
        assert.deepEqual([dry.dry_run, dry.pushed, dry.files_total], [true, false, 1]);
        assert.equal(committed(at.target).head, before.head);
        await a.refused('commit', { ...args, expected_head: before.head.replace(/^./, (c) => (c === '0' ? '1' : '0')) }, 'head_moved');
        const done = await a.ok('commit', { ...args, trailers: true, expected_head: before.head });
        assert.deepEqual([done.pushed, done.parents, done.files], [true, [before.head], [{ path, action: 'created' }]]);
        assert.equal(committed(at.target).head, done.commit);
        assert.equal(git(at.target.remote, 'show', `${done.commit}:${path}`).toString(), 'made by an agent\n');
        const shown = git(at.target.remote, 'log', '-1', '--format=%an <%ae>%n%B', done.commit).toString();
        assert.match(shown, /^Ann <ann@example\.org>\nLet an agent work\n\nIt did\.\n/);
        assert.ok(shown.includes(`agent:${NAME}`), shown);
        git(at.target.remote, 'fsck', '--strict');
        const [newest, older] = (await a.ok('log', { limit: 2 })).commits;
        assert.deepEqual([newest.commit, older.commit], [done.commit, before.head]);
        const history = (await a.pages('log', { path, limit: 1 })).flatMap((page) => page.commits);
        assert.deepEqual(history.map((commit) => commit.commit), [done.commit]);
        const { changes, head, ahead } = await a.ok('status');
        assert.deepEqual([changes.map((change) => change.path), head, ahead], [['left.txt'], done.commit, 0]);
        const between = await a.ok('diff', { from: before.head, to: done.commit, names_only: true });
        assert.deepEqual(between.files.map((file) => [file.path, file.action]), [[path, 'created']]);
        const elsewhere = { message: 'Named', author: { name: 'Bo', email: 'bo@example.org' }, push: false };
        const kept = await a.ok('commit', elsewhere);
        assert.equal(kept.pushed, false);
        assert.equal((await a.ok('log', { limit: 1 })).commits[0].author, 'Bo <bo@example.org>');
        assert.equal((await a.ok('status')).ahead, 1);
    },

    async 'a diff comes in pages that leave nothing out'(at) {
        const a = await agent(at);
        const paths = Array.from({ length: 9 }, (_, number) => `pages/${number}.txt`);
        for (const path of paths) await a.ok('write_file', { path, content: `${path} `.repeat(60) + '\n' });
        for (const args of [{ limit: 2 }, { max_bytes: 2_000 }, { names_only: true, limit: 4 }]) {
            const pages = await a.pages('diff', { prefix: 'pages/', ...args });
            assert.ok(pages.length > 1, JSON.stringify(args));
            const files = pages.flatMap((page) => page.files);
            assert.deepEqual(files.map((file) => file.path), paths);
            assert.ok(args.names_only || files.every((file) => file.patch.includes(file.path) && !file.patch_truncated));
        }
        const pages = await a.pages('status', { limit: 4 });
        assert.deepEqual(pages.flatMap((page) => page.changes.map((change) => change.path)), paths);
    },

    async 'a conflict shows both sides and changes nothing until it is settled'(at) {
        const [a, b] = [await agent(at), await agent(at)];
        const path = `conflict-${at.target.transport}.txt`;
        await a.ok('write_file', { path, content: 'one\ntwo\nthree\n' });
        await a.ok('commit', { message: 'Begin', paths: [path] });
        await a.ok('edit', { path, old_string: 'two', new_string: 'two of A' });
        await b.ok('edit', { path, old_string: 'two', new_string: 'two of B' });
        const theirs = await b.ok('commit', { message: 'B was faster' });
        const [change] = (await a.ok('status')).changes;
        assert.deepEqual([change.path, change.state], [path, 'conflict']);
        const refused = await a.refused('commit', { message: 'A comes late' }, 'conflict');
        assert.equal(refused.conflicts[0].path, path);
        for (const side of ['two of A\n', 'two\n', 'two of B\n']) assert.ok(refused.text.includes(side), refused.text);
        assert.equal(committed(at.target).head, theirs.commit);
        const { files } = await a.ok('conflicts');
        assert.deepEqual(files[0].hunks, [{ base: 'two\n', ours: 'two of A\n', theirs: 'two of B\n' }]);
        await a.refused('resolve', { files: [{ path, take: 'merged' }] }, 'conflict');
        // Whoever saw no file there has not seen what there is.
        await a.refused('resolve', { files: [{ path, take: 'ours', theirs: null }] }, 'head_moved');
        await a.ok('resolve', { files: [{ path, take: 'text', content: 'one\ntwo of both\nthree\n', theirs: files[0].theirs }] });
        assert.equal((await a.text('conflicts')), '[Nothing is in the way of a commit.]');
        const done = await a.ok('commit', { message: 'Both' });
        assert.equal(git(at.target.remote, 'show', `${done.commit}:${path}`).toString(), 'one\ntwo of both\nthree\n');
        git(at.target.remote, 'fsck', '--strict');
    },

    async 'a pull takes over what the remote has, and merges where it is asked to'(at) {
        const a = await agent(at);
        const { remote, transport } = at.target;
        const path = `pulled-${transport}.txt`;
        /** Somebody commits a tree that there is, with stock git. */
        const others = (tree) => {
            const made = git(remote, 'commit-tree', tree, '-p', 'main', '-m', 'Others work').toString().trim();
            git(remote, 'update-ref', 'refs/heads/main', made);
            return made;
        };
        await a.ok('write_file', { path, content: 'one\n' });
        await a.ok('commit', { message: 'Begin', paths: [path] });
        await a.ok('edit', { path, old_string: 'one', new_string: 'one more' });
        const before = (await a.ok('status')).head;
        const reverted = others('main~1^{tree}');
        const dry = await a.ok('sync', { dry_run: true });
        assert.deepEqual([dry.from, dry.to, dry.changed], [before, reverted, [{ path, action: 'deleted' }]]);
        assert.deepEqual([dry.pending_total, dry.pending], [1, [{ path, state: 'conflict' }]]);
        assert.equal((await a.ok('status')).head, before);
        assert.match(await a.text('sync'), /is conflict\nLook at `conflicts`/);
        assert.equal((await a.ok('status')).head, reverted);
        assert.match(await a.text('sync'), /has all that the remote has/);
        await a.ok('resolve', { files: [{ path, take: 'ours', theirs: null }] });
        const kept = await a.ok('commit', { message: 'Keep it here', push: false });
        const again = others('main^{tree}');
        await a.refused('sync', {}, 'diverged');
        const merged = await a.ok('sync', { on_diverged: 'merge' });
        const [commit] = (await a.ok('log', { limit: 1 })).commits;
        assert.deepEqual([commit.commit, commit.parents], [merged.to, [kept.commit, again]]);
        await remotely(at, 'push');
        git(remote, 'fsck', '--strict');
    },

    async 'two clients at once lose no edit of each other'(at) {
        const user = randomUUID();
        const clients = [await agent(at, user), await agent(at, user)];
        const lines = Array.from({ length: 16 }, (_, line) => `line ${line};`);
        await clients[0].ok('write_file', { path: 'both.txt', content: `${lines.join('\n')}\n` });
        const edits = lines.map((old_string, line) =>
            clients[line % 2].ok('edit', { path: 'both.txt', old_string, new_string: `${old_string} edited` }),
        );
        await Promise.all(edits);
        const [file] = (await clients[1].ok('read_multiple_files', { paths: ['both.txt'] })).files;
        assert.equal(file.content, `${lines.map((line) => `${line} edited`).join('\n')}\n`);
    },

    async 'a call that is cancelled is not answered, and what it had begun is whole or not there'(at) {
        const a = await agent(at);
        const before = (await a.ok('log', { limit: 1 })).commits[0].commit;
        await a.ok('write_file', { path: `cancelled-${at.target.transport}.txt`, content: 'x\n' });
        const abort = new AbortController();
        const call = a.raw('commit', { message: 'Cancelled' }, { signal: abort.signal });
        setTimeout(() => abort.abort('enough'), 5);
        await assert.rejects(() => call);
        const reads = Array.from({ length: 8 }, () => {
            const abort = new AbortController();
            const read = a.raw('search', { query: 'e', regex: true }, { signal: abort.signal });
            setTimeout(() => abort.abort('enough'), 1);
            return read.then(() => 'answered', () => 'cancelled');
        });
        await Promise.all(reads);
        // The connection goes on, and so does the commit, if it had begun.
        let status = await a.ok('status');
        for (let round = 0; round < 100 && (status.changes_total > 0 || status.unsettled.length > 0); round += 1) {
            if (round === 20 && status.unsettled.length === 0) await a.raw('commit', { message: 'Cancelled' });
            await wait(50);
            status = await a.ok('status');
        }
        assert.deepEqual([status.changes_total, status.unsettled], [0, []]);
        const { commits } = await a.ok('log', { limit: 2 });
        assert.deepEqual([commits[0].message.trim(), commits[1].commit], ['Cancelled', before], 'once, and no more');
        git(at.target.remote, 'fsck', '--strict');
    },

    async 'who may only read has no tool that writes'(at) {
        if (at.target.transport !== 'stdio') return;
        const a = await agent(at, randomUUID(), { flags: ['--read-only'] });
        assert.deepEqual(a.tools.map((tool) => tool.name).sort(), READS);
        await assert.rejects(() => a.raw('write_file', { path: 'a', content: 'x' }), /unknown tool/);
    },

    async 'who waits long hears that it goes on'(at) {
        // The remote answers this push late.
        const a = await agent(at);
        await remotely(at, 'sync');
        await a.ok('write_file', { path: `slow-${at.target.transport}.txt`, content: 'x\n' });
        await fetch(at.config.slow);
        const heard = [];
        const done = await a.ok('commit', { message: 'Slow' }, { onprogress: (progress) => heard.push(progress) });
        assert.equal(done.pushed, true);
        assert.ok(heard.length >= 1 && heard[0].progress >= 1 && /at work/.test(heard[0].message), JSON.stringify(heard));
    },

    async 'the executable bit is told, and set without sending the content'(at) {
        const a = await agent(at);
        const [{ path, oid }] = committed(at.target).files.filter((file) => file.mode === '100644');
        const set = await a.ok('edit', { path, executable: true, expected_oid: oid });
        assert.deepEqual([set.status, set.oid, set.executable], ['applied', oid, true]);
        const { changes } = await a.ok('status');
        assert.deepEqual(changes.map((one) => [one.path, one.action, one.executable, one.mode_changed]), [[path, 'modified', true, true]]);
        assert.ok((await a.text('status')).includes(`modified ${path} (executable now)\n`));
        const [listed] = (await a.ok('list_files', { prefix: path })).entries;
        assert.deepEqual([listed.kind, listed.pending], ['executable', true]);
        assert.match(await a.text('list_files', { prefix: path }), /, executable\) pending\n/);
        assert.equal((await a.ok('edit', { path, executable: true })).status, 'unchanged');
        assert.equal((await a.ok('edit', { path, executable: false })).executable, false);
        assert.equal((await a.ok('status')).changes_total, 0, 'it is as it was');
        await a.ok('write_file', { path: 'bit/run', content: 'one\n', executable: true });
        const both = await a.ok('edit', { path: 'bit/run', old_string: 'one', new_string: 'two', executable: false });
        assert.deepEqual([both.status, both.executable, both.size], ['applied', false, 4]);
        const [read] = (await a.ok('read_multiple_files', { paths: ['bit/run'] })).files;
        assert.deepEqual([read.content, read.mode], ['two\n', undefined]);
        await a.refused('edit', { path: 'bit/none', executable: true }, 'file_not_found');
    },

    async 'what is ahead is pushed without a commit'(at) {
        const a = await agent(at);
        const { remote, transport } = at.target;
        await a.ok('sync', { on_diverged: 'merge' });
        await a.ok('push');
        await a.ok('write_file', { path: `ahead-${transport}.txt`, content: 'x\n' });
        const before = committed(at.target).head;
        const kept = await a.ok('commit', { message: 'Ahead', push: false });
        assert.match(await a.text('status'), /1 ahead, 0 behind; `push` sends what is ahead/);
        await fetch(at.config.slow);
        const heard = [];
        const done = await a.ok('push', {}, { onprogress: (progress) => heard.push(progress) });
        assert.deepEqual([done.pushed, done.from, done.to, done.commits], [true, before, kept.commit, 1]);
        assert.ok(heard.length >= 1 && /at work/.test(heard[0].message), JSON.stringify(heard));
        assert.equal(committed(at.target).head, kept.commit);
        assert.deepEqual([(await a.ok('push')).pushed, (await a.ok('status')).ahead], [false, 0]);
        const theirs = git(remote, 'commit-tree', 'main^{tree}', '-p', 'main', '-m', 'Others work').toString().trim();
        git(remote, 'update-ref', 'refs/heads/main', theirs);
        await a.ok('edit', { path: `ahead-${transport}.txt`, old_string: 'x', new_string: 'y' });
        await a.ok('commit', { message: 'Ahead again', push: false });
        assert.match((await a.refused('push', {}, 'diverged')).detail, /on_diverged/);
        assert.equal(committed(at.target).head, theirs, 'nothing was sent');
        const merged = await a.ok('sync', { on_diverged: 'merge' });
        assert.equal((await a.ok('push')).to, merged.to);
        assert.equal(committed(at.target).head, merged.to);
        git(remote, 'fsck', '--strict');
        await a.refused('push', { branch: 'main' }, 'bad_arguments');
    },

    async 'who subscribes to a resource hears that it changed'(at) {
        const a = await agent(at);
        const uri = (path) => `treehold://${at.target.project}/${path}`;
        if (at.target.transport === 'http') {
            // Of this protocol only a session on the server could tell: so it is not promised (http.mjs has the newer way).
            assert.ok(!a.client.getServerCapabilities().resources.subscribe);
            await assert.rejects(() => a.client.subscribeResource({ uri: uri('') }));
            return;
        }
        assert.equal(a.client.getServerCapabilities().resources.subscribe, true);
        const heard = new Set();
        a.client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => void heard.add(params.uri));
        const hears = async (...expected) => {
            for (let round = 0; round < 200 && !expected.every((one) => heard.has(one)); round += 1) await wait(50);
            assert.deepEqual([...heard].sort(), [...expected].sort());
            heard.clear();
        };
        for (const path of ['', 'heard.txt', 'quiet.txt']) await a.client.subscribeResource({ uri: uri(path) });
        for (const unknown of ['treehold://other/', uri('x'.repeat(20_000))]) {
            await assert.rejects(() => a.client.subscribeResource({ uri: unknown }), /no such resource/);
        }
        await otherDevice(at, a.user, 'heard.txt', 'saved elsewhere\n');
        await hears(uri(''), uri('heard.txt'));
        // What others have pending is nothing that this user sees; what they commit is.
        const b = await agent(at);
        await b.ok('write_file', { path: 'quiet.txt', content: 'of B\n' });
        await a.ok('write_file', { path: 'unheard.txt', content: 'x\n' });
        await hears(uri(''));
        await b.ok('commit', { message: 'Of B', push: false });
        await hears(uri(''), uri('quiet.txt'));
        await a.client.unsubscribeResource({ uri: uri('') });
        await a.ok('edit', { path: 'heard.txt', old_string: 'saved', new_string: 'edited' });
        await hears(uri('heard.txt'));
    },

    async 'a project that takes the place of another one is heard of'(at) {
        const { config, target } = at;
        if (target.transport === 'http') return;
        const name = `named-${randomUUID()}`;
        const url = (id) => `${config.base}/projects/${id}`;
        const headers = { 'X-Internal-API-Key': config.key, 'Content-Type': 'application/json' };
        const make = async () => {
            const id = randomUUID();
            const response = await fetch(url(id), { method: 'PUT', headers, body: JSON.stringify({ name }) });
            assert.equal(response.status, 201, await response.text());
            return id;
        };
        const first = await make();
        const a = await agent({ ...at, target: { ...target, project: name } });
        const uri = `treehold://${name}/heard.txt`;
        const heard = new Set();
        a.client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => void heard.add(params.uri));
        const hears = async (project, more) => {
            heard.clear();
            for (let round = 0; round < 100 && heard.size === 0; round += 1) {
                await more();
                await otherDevice({ config, target: { project } }, a.user, 'heard.txt', `${round}\n`);
                await wait(100);
            }
            assert.deepEqual([...heard], [uri]);
        };
        await a.client.subscribeResource({ uri });
        await hears(first, () => {});
        assert.equal((await fetch(url(first), { method: 'DELETE', headers })).status, 204);
        // Its reader has found out by then that there is none, and ended.
        await wait(3_000);
        await hears(await make(), () => a.client.subscribeResource({ uri }));
    },
};
