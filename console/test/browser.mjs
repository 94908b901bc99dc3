// Chromium without a network but ours, pages that are signed in, and screenshots, which are build output.
import { mkdtempSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const SHOTS = fileURLToPath(new URL("./screenshots/", import.meta.url));
const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";
const QUIET = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync",
];

export async function openBrowser(options = {}) {
  const profile = mkdtempSync(join(tmpdir(), "treehold-console-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: EXECUTABLE, headless: true, args: QUIET, viewport: { width: 1280, height: 800 }, ...options,
  });
  context.setDefaultTimeout(20_000);
  if (process.env.CONSOLE_ASSETS) await context.route(/\/console(\/[\w.]*)?$/, (route) => fromSources(route));
  const close = async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return { context, close };
}

/**
 * With `CONSOLE_ASSETS` the page's files are those of a directory, under the heads that the server sends with its own: so that a
 * change of the sources is tried without a build of the server.
 */
async function fromSources(route) {
  const name = /\/console\/(.+)$/.exec(new URL(route.request().url()).pathname)?.[1] ?? "index.html";
  const response = await route.fetch().catch(() => undefined);
  // Cut, as the page's own requests are.
  if (!response) return route.abort().catch(() => {});
  const { "content-encoding": _encoding, "content-length": _length, ...headers } = response.headers();
  await route.fulfill({ status: 200, headers, body: readFileSync(join(process.env.CONSOLE_ASSETS, name)) });
}

/** A page whose script errors, and what its policy refused, are told by `errors`. */
export async function openPage(context, url) {
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    // A request that fails is told in the page; the browser tells it here, too.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) errors.push(message.text());
  });
  await page.goto(url);
  return { page, errors };
}

export async function signIn(page, key, person) {
  await page.getByLabel("Key of this server").fill(key);
  await page.getByLabel("Name, for commits").fill(person.name);
  await page.getByLabel("E-mail").fill(person.email);
  await page.getByLabel("User", { exact: true }).fill(person.user);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Projects", exact: true }).waitFor();
}

export async function shoot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`), animations: "disabled" });
}

/** What is in the editor with this label. Its lines are drawn as they are needed, so it is for short texts. */
export async function textOf(page, label) {
  const box = page.getByRole("textbox", { name: label, exact: true });
  // What is asked of all lines is answered at once, also where there is no editor yet.
  await box.first().waitFor();
  return (await box.locator(".cm-line").allTextContents()).join("\n");
}

/** No save leaves the page until `act` is done, however long that takes: so it is what another device does meanwhile that comes first. */
export async function whileHeld(page, act) {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  const hold = async (route) => {
    if (route.request().method() !== "GET") await released;
    await route.fallback();
  };
  await page.route(/\/pending\//, hold);
  try {
    await act();
  } finally {
    release();
    await page.unroute(/\/pending\//, hold);
  }
}
