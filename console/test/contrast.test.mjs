// WCAG 2.2, 1.4.3 and 1.4.11: text has a contrast of 4.5 to its ground, and edges of controls one of 3, light and dark.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const text = readFileSync(new URL("../src/styles.css", import.meta.url), "utf8");
const [light, dark] = [...text.matchAll(/:root \{([^}]*)\}/g)].map(([, block]) =>
  Object.fromEntries([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6})/g)].map(([, name, value]) => [name, value])));

function luminance(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, two) {
  const [dim, bright] = [luminance(one), luminance(two)].sort((a, b) => a - b);
  return (bright + 0.05) / (dim + 0.05);
}

const grounds = ["paper", "surface", "sunken"];
const pairs = [
  ...["ink", "ink-2", "accent", "bad", "warn", "good"].flatMap((ink) => grounds.map((ground) => [ink, ground, 4.5])),
  ...["syn-word", "syn-text", "syn-number", "syn-type", "syn-call", "ink", "ink-2"].flatMap((ink) =>
    ["surface", "line-at", "selection", "warn-soft", "accent-soft"].map((ground) => [ink, ground, 4.5])),
  ["accent-ink", "accent", 4.5], ["accent", "accent-soft", 4.5], ["warn", "warn-soft", 4.5], ["bad", "bad-soft", 4.5],
  ["ink", "bad-soft", 4.5], ["ink", "add", 4.5], ["ink", "del", 4.5], ["ink-2", "add", 4.5], ["ink-2", "del", 4.5],
  ...["line-strong", "focus"].flatMap((edge) => grounds.map((ground) => [edge, ground, 3])),
];

for (const [scheme, colours] of Object.entries({ light, dark: { ...light, ...dark } })) {
  test(`${scheme} colours can be told apart`, () => {
    for (const [ink, ground, least] of pairs) {
      assert.ok(colours[ink] && colours[ground], `${ink} and ${ground} are there`);
      const found = contrast(colours[ink], colours[ground]);
      assert.ok(found >= least, `${ink} on ${ground}: ${found.toFixed(2)}, at least ${least}`);
    }
  });
}
