/** Lines of the old text that became others: `from` to `to` (not included), counted from 0. */
export interface LineChange {
  from: number;
  to: number;
  lines: string[];
}

/** Steps of one search for the shortest edit; where it needs more, the whole rest counts as changed. */
const STEPS_MAX = 2_000;

/** Lines with their ends. */
export function splitLines(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

/** A shortest set of changes that makes `after` of `before` (E. Myers, “An O(ND) difference algorithm and its variations”, 1986). */
export function lineChanges(before: string[], after: string[]): LineChange[] {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let [endA, endB] = [before.length, after.length];
  while (endA > start && endB > start && before[endA - 1] === after[endB - 1]) [endA, endB] = [endA - 1, endB - 1];
  const kept = commonLines(before.slice(start, endA), after.slice(start, endB));
  kept.push([endA - start, endB - start]);
  const changes: LineChange[] = [];
  let [a, b] = [0, 0];
  for (const [nextA, nextB] of kept) {
    if (nextA > a || nextB > b) {
      changes.push({ from: start + a, to: start + nextA, lines: after.slice(start + b, start + nextB) });
    }
    [a, b] = [nextA + 1, nextB + 1];
  }
  return changes;
}

/** Pairs of places at which both have the same line, in order. */
function commonLines(a: string[], b: string[]): [number, number][] {
  const most = Math.min(a.length + b.length, STEPS_MAX);
  const trace: Int32Array[] = [];
  let best = new Int32Array(2 * most + 2);
  for (let d = 0; d <= most; d++) {
    trace.push(best.slice());
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && best[most + k - 1]! < best[most + k + 1]!);
      let x = down ? best[most + k + 1]! : best[most + k - 1]! + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      best[most + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(trace, a.length, b.length, most);
    }
  }
  return [];
}

function walkBack(trace: Int32Array[], endX: number, endY: number, most: number): [number, number][] {
  const pairs: [number, number][] = [];
  let [x, y] = [endX, endY];
  for (let d = trace.length - 1; d >= 0; d--) {
    const best = trace[d]!;
    const k = x - y;
    const down = k === -d || (k !== d && best[most + k - 1]! < best[most + k + 1]!);
    const fromK = down ? k + 1 : k - 1;
    const fromX = d === 0 ? 0 : best[most + fromK]!;
    const fromY = d === 0 ? 0 : fromX - fromK;
    while (x > fromX && y > fromY) pairs.push([--x, --y]);
    [x, y] = [fromX, fromY];
  }
  return pairs.reverse();
}

/**
 * What two texts with one origin come to together, line by line; `undefined` where both changed the same lines, or lines side by
 * side, in different ways: as git merges.
 */
export function merge3(base: string, ours: string, theirs: string): string | undefined {
  if (ours === theirs || base === theirs) return ours;
  if (base === ours) return theirs;
  const origin = splitLines(base);
  const [mine, others] = [lineChanges(origin, splitLines(ours)), lineChanges(origin, splitLines(theirs))];
  const out: string[] = [];
  let at = 0;
  while (mine.length > 0 || others.length > 0) {
    const [one, two] = [mine[0], others[0]];
    if (one && two && one.from <= two.to && two.from <= one.to) {
      if (one.from !== two.from || one.to !== two.to || one.lines.join("") !== two.lines.join("")) return undefined;
      others.shift();
    }
    const first = one && (!two || one.from <= two.from) ? mine.shift()! : others.shift()!;
    out.push(...origin.slice(at, first.from), ...first.lines);
    at = first.to;
  }
  return [...out, ...origin.slice(at)].join("");
}
