// node run.mjs CONFIG: runs every case on every transport named in the configuration. Prints a line each; status 1 if one failed.
import { readFileSync } from 'node:fs';
import { cases } from './cases.mjs';
import { http } from './http.mjs';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
let failed = 0;
let passed = 0;
for (const target of config.targets) {
    const all = { ...cases, ...(target.transport === 'http' ? http : {}) };
    for (const [name, run] of Object.entries(all)) {
        if (target.only && !target.only.includes(name)) continue;
        const began = Date.now();
        const closing = [];
        try {
            await run({ config, target, onEnd: (close) => closing.push(close) });
            passed += 1;
            console.log(`ok ${target.transport} ${name} (${Date.now() - began} ms)`);
        } catch (error) {
            failed += 1;
            console.log(`FAILED ${target.transport} ${name}\n${error.stack}${error.cause ? `\n  ${error.cause.stack}` : ''}`);
        }
        for (const close of closing) await close().catch(() => {});
    }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed || !passed ? 1 : 0);
