"use strict";
// Shows openapi.json. Everything from the document goes into the page as text, never as HTML.

const METHODS = ["get", "head", "post", "put", "patch", "delete"];
/** Shapes within shapes are shown so deep at once; deeper ones open by themselves. */
const DEPTH = 1;

let api;

function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== ""));
  return element;
}

/** The little Markdown of our own descriptions: paragraphs, `code`, **strong**. */
function prose(text = "") {
  return text.split(/\n\n+/).filter(Boolean).map((paragraph) => make("p", {}, inline(paragraph)));
}

function inline(text = "") {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`") && part.length > 2) return make("code", {}, part.slice(1, -1));
    if (part.startsWith("**") && part.length > 4) return make("strong", {}, part.slice(2, -2));
    return part;
  });
}

function resolve(value) {
  if (!value || !value.$ref) return value;
  const found = value.$ref.slice(2).split("/").reduce((at, key) => at[key.replaceAll("~1", "/").replaceAll("~0", "~")], api);
  return { ...found, ...value, $ref: undefined, name: value.$ref.split("/").pop() };
}

/** What a shape is, in a few words. */
function kind(schema) {
  const shape = resolve(schema) ?? {};
  const choices = shape.oneOf ?? shape.anyOf;
  if (shape.const !== undefined) return JSON.stringify(shape.const);
  if (shape.enum) return shape.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (choices) return [...new Set(choices.map(kind))].join(" | ");
  const types = [shape.type ?? (shape.properties ? "object" : "anything")].flat();
  const shown = types.map((type) => {
    if (type === "array") return `list of ${kind(shape.items)}`;
    if (type === "object" && shape.name) return shape.name;
    return shape.format && type !== "null" ? `${type} (${shape.format})` : type;
  });
  const bounds = [];
  if (shape.minimum !== undefined) bounds.push(`at least ${shape.minimum}`);
  if (shape.maximum !== undefined && shape.maximum < Number.MAX_SAFE_INTEGER) bounds.push(`at most ${shape.maximum}`);
  if (shape.maxLength !== undefined) bounds.push(`at most ${shape.maxLength} characters`);
  if (shape.default !== undefined && shape.default !== null) bounds.push(`default ${JSON.stringify(shape.default)}`);
  return shown.join(" | ") + (bounds.length ? `, ${bounds.join(", ")}` : "");
}

/** The fields of an object, whatever it is put together from; of a list, those of its items. */
function parts(schema, fields = new Map(), variants = []) {
  const shape = resolve(schema) ?? {};
  for (const [name, field] of Object.entries(shape.properties ?? {})) {
    fields.set(name, { field, must: (shape.required ?? []).includes(name) });
  }
  for (const one of shape.allOf ?? []) parts(one, fields, variants);
  for (const one of shape.oneOf ?? shape.anyOf ?? []) {
    const inner = resolve(one) ?? {};
    if (inner.properties || inner.allOf || inner.oneOf) variants.push(one);
    else if (inner.type === "array") parts(inner, fields, variants);
  }
  if (shape.items) parts(shape.items, fields, variants);
  return { fields, variants };
}

function shown(schema, depth = 0) {
  const { fields, variants } = parts(schema);
  const list = [...fields].map(([name, { field, must }]) => [
    make("dt", {}, make("code", {}, name), make("span", { class: "kind" }, kind(field)), must ? make("span", { class: "must" }, "always") : ""),
    make("dd", {}, inline(resolve(field)?.description ?? field.description), nested(field, depth)),
  ]);
  const others = variants.map((one) => make("dd", {}, make("p", {}, inline(resolve(one).description ?? "One of:")), shown(one, depth + 1)));
  return list.length || others.length ? make("dl", {}, list.flat(), others) : "";
}

function nested(schema, depth) {
  const { fields, variants } = parts(schema);
  if (!fields.size && !variants.length) return "";
  const box = make("details", {}, make("summary", {}, "its fields"));
  const fill = () => box.children.length > 1 || box.append(shown(schema, depth + 1));
  box.addEventListener("toggle", fill);
  if (depth < DEPTH) box.open = true;
  return box;
}

function listing(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const copy = make("button", { type: "button", class: "copy", onclick: () => navigator.clipboard?.writeText(text).then(() => { copy.textContent = "copied"; }) }, "copy");
  return make("div", {}, copy, make("pre", { tabindex: "0" }, text));
}

function quote(text) {
  return `'${String(text).replaceAll("'", "'\\''")}'`;
}

function curl(path, method, operation) {
  const parameters = operation.parameters ?? [];
  const sample = (parameter) => parameter.schema.examples?.[0] ?? parameter.schema.enum?.[0] ?? parameter.name.toUpperCase();
  let url = path;
  for (const parameter of parameters.filter((one) => one.in === "path")) url = url.replace(`{${parameter.name}}`, sample(parameter));
  const query = parameters.filter((one) => one.in === "query" && one.required).map((one) => `${one.name}=${sample(one)}`);
  if (query.length) url += `?${query.join("&")}`;
  const words = ["curl"];
  const verb = method.toUpperCase();
  const content = operation.requestBody?.content ?? {};
  const type = Object.keys(content)[0];
  if (verb === "HEAD") words.push("-I");
  else if (verb !== "GET" && !(verb === "POST" && type)) words.push("-X", verb);
  const security = operation.security ?? api.security;
  if (security.some((one) => one.key)) words.push("-H", '"X-Internal-API-Key: $KEY"');
  if (security.some((one) => one.git)) words.push("-u", '"git:$KEY"');
  if (type === "application/json" && content[type].example) words.push("-H", quote("Content-Type: application/json"), "-d", quote(JSON.stringify(content[type].example)));
  else if (type) words.push("-H", quote(`Content-Type: ${type}`), "--data-binary", "@FILE");
  words.push(quote(location.origin + url));
  return words.join(" ");
}

function inputs(operation) {
  const places = { path: "Path", query: "Query", header: "Headers" };
  return Object.entries(places).map(([place, title]) => {
    const those = (operation.parameters ?? []).filter((one) => one.in === place);
    if (!those.length) return "";
    return [make("h3", {}, title), make("dl", {}, those.flatMap((one) => [
      make("dt", {}, make("code", {}, one.name), make("span", { class: "kind" }, kind(one.schema)), one.required && place !== "path" ? make("span", { class: "must" }, "needed") : ""),
      make("dd", {}, inline(one.description)),
    ]))];
  }).flat();
}

function bodies(content = {}) {
  return Object.entries(content).map(([type, { schema = {}, example }]) => [
    make("p", {}, make("code", {}, type), " ", kind(schema)),
    shown(schema["x-treehold-line"] ?? schema),
    example === undefined ? "" : listing(example),
  ]).flat();
}

function response(status, answer) {
  const headers = Object.keys(answer.headers ?? {}).filter((name) => name !== "X-Request-Id");
  const refused = status >= 400;
  return make("div", { class: refused ? "refused" : "" },
    make("h3", {}, make("span", { class: "status" }, status), refused ? "" : ` ${answer.description}`),
    refused ? prose(answer.description) : "",
    headers.length ? make("p", {}, "Headers: ", inline(headers.map((name) => `\`${name}\``).join(", "))) : "",
    refused ? "" : bodies(answer.content));
}

function limits(operation) {
  const rows = Object.entries(operation["x-treehold-limits"] ?? {});
  if (!rows.length) return "";
  return [make("h3", {}, "Limits"), make("table", {}, rows.map(([name, { value, unit, description }]) =>
    make("tr", {}, make("td", {}, make("code", {}, name)), make("td", {}, `${value.toLocaleString("en")} ${unit}`), make("td", {}, description))))];
}

function fill(inside, path, method, operation) {
  const answers = Object.entries(operation.responses);
  inside.append(...[
    prose(operation.description), listing(curl(path, method, operation)), limits(operation), inputs(operation),
    operation.requestBody ? [make("h3", {}, "Body"), ...prose(operation.requestBody.description), ...bodies(operation.requestBody.content)] : "",
    answers.map(([status, answer]) => response(status, resolve(answer))),
  ].flat(2).filter((child) => child !== ""));
}

/** All words under which an operation can be found. */
function words(path, method, operation) {
  const seen = new Set();
  const all = [method, path];
  const walk = (value) => {
    if (Array.isArray(value)) value.forEach(walk);
    else if (value && typeof value === "object") {
      if (value.$ref) {
        if (seen.has(value.$ref)) return;
        seen.add(value.$ref);
        if (!value.$ref.endsWith("/Problem")) walk({ ...resolve(value), name: undefined });
      } else for (const [key, inner] of Object.entries(value)) { all.push(key); walk(inner); }
    } else if (typeof value === "string") all.push(value);
  };
  walk(operation);
  return all.join("\n").toLowerCase();
}

function operationOf(path, method, operation) {
  const inside = make("div", { class: "in" });
  const box = make("details", { class: "op", id: operation.operationId },
    make("summary", {}, make("code", { class: `verb ${method}` }, method.toUpperCase()), make("code", { class: "path" }, path), make("span", { class: "what" }, operation.summary)),
    inside);
  box.addEventListener("toggle", () => {
    if (box.open && !inside.children.length) fill(inside, path, method, operation);
    if (box.open) history.replaceState(null, "", `#${operation.operationId}`);
  });
  return { box, title: `${method} ${path} ${operation.summary}`.toLowerCase(), words: words(path, method, operation) };
}

function show() {
  const all = [];
  const main = document.getElementById("operations");
  document.getElementById("title").textContent = `${api.info.title} ${api.info.version} API`;
  main.replaceChildren(make("section", {}, prose(api.info.description)));
  for (const tag of api.tags) {
    const section = make("section", { id: `group-${tag.name.replaceAll(" ", "-")}` }, make("h2", {}, tag.name), prose(tag.description));
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS.filter((one) => item[one]?.tags.includes(tag.name))) {
        const entry = operationOf(path, method, item[method]);
        all.push({ ...entry, section });
        section.append(entry.box);
      }
    }
    main.append(section);
    document.getElementById("groups").append(make("a", { href: `#${section.id}` }, tag.name), " ");
  }
  return all;
}

function find(all, text) {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const one of all) one.box.hidden = !wanted.every((word) => one.title.includes(word) || one.words.includes(word));
  const sections = new Set(all.map((one) => one.section));
  for (const section of sections) section.hidden = all.every((one) => one.section !== section || one.box.hidden);
  document.querySelector("main > section:first-child").hidden = wanted.length > 0;
  const count = all.filter((one) => !one.box.hidden).length;
  document.getElementById("found").textContent = wanted.length ? `${count} of ${all.length} routes` : "";
}

function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.matches("details")) target.open = true;
  target?.scrollIntoView();
}

async function start() {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`openapi.json: ${response.status}`);
  api = await response.json();
  const all = show();
  const input = document.getElementById("find");
  input.addEventListener("input", () => find(all, input.value));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(input|textarea)$/i.test(event.target.tagName)) { event.preventDefault(); input.focus(); }
    if (event.key === "Escape") { input.value = ""; find(all, ""); input.blur(); }
  });
  addEventListener("hashchange", follow);
  follow();
}

start().catch((error) => {
  document.getElementById("operations").replaceChildren(make("p", { role: "alert" }, `The document could not be loaded: ${error.message}. Reload the page to try again.`));
});
