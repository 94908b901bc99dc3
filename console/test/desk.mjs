// A server, a browser, and pages of the console that are signed in: what every file of tests begins with.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { serving } from "../../clients/typescript/build/test/server.js";
import { openBrowser, openPage, signIn } from "./browser.mjs";

export const USER = "11111111-2222-4333-8444-555555555555";
export const ANN = { name: "Ann", email: "ann@example.org", user: USER };

export const go = (page, place) => page.evaluate((hash) => void (location.hash = hash), place);
export const file = (project, path) => `#/p/${project.name}/files/${encodeURIComponent(path)}`;
export const editor = (page, path) => page.getByRole("textbox", { name: path, exact: true });
export const state = (page) => page.locator(".save").getAttribute("data-state");
export const saved = (page) => page.locator('.save[data-state="saved"]').waitFor();

export function desk() {
  const { server, client, project, imported } = serving();
  let opened;
  before(async () => void (opened = await openBrowser()));
  after(() => opened?.close());
  const browser = () => opened;

  /** A page of the console, signed in, at a place of a project. */
  const at = async (t, place, { url = server().url, context = opened.context } = {}) => {
    const { page, errors } = await openPage(context, `${url}/console`);
    t.after(async () => {
      if (!page.isClosed()) await page.close();
      assert.deepEqual(errors, [], "no script failed, and the policy refused nothing");
    });
    await signIn(page, server().key, ANN);
    await go(page, place);
    return page;
  };
  const view = async (project, path, ref) => (await project.files.read(path, { user: USER, ...(ref ? { ref } : {}) })).text();
  return { browser, server, client, project, imported, at, view };
}
