// Stock git, as the judge.
import { execFileSync } from 'node:child_process';

export const git = (dir, ...args) =>
    execFileSync('git', ['-c', 'core.quotePath=false', '-c', 'safe.directory=*', ...args], { cwd: dir, maxBuffer: 1 << 28 });

/** The files of a commit: path, mode, oid. */
export function tree(dir, revision) {
    const lines = git(dir, 'ls-tree', '-r', '-z', revision).toString().split('\0').filter(Boolean);
    return lines.map((line) => {
        const [, mode, kind, oid, path] = /^(\d+) (\w+) (\w+)\t([^]*)$/.exec(line);
        return { path, mode, kind, oid };
    });
}
