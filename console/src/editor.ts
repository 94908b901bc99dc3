import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { css } from "@codemirror/lang-css";
import { html } from "@codemirror/lang-html";
import { javascript } from "@codemirror/lang-javascript";
import { json } from "@codemirror/lang-json";
import { markdown } from "@codemirror/lang-markdown";
import { python } from "@codemirror/lang-python";
import { rust } from "@codemirror/lang-rust";
import { yaml } from "@codemirror/lang-yaml";
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { highlightSelectionMatches, search, searchKeymap } from "@codemirror/search";
import { Annotation, Compartment, EditorState, Transaction, type ChangeSpec, type Extension } from "@codemirror/state";
import { Decoration, drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers, showPanel, type Panel } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { lineChanges, splitLines } from "treehold";

export interface PaneOptions {
  text: string;
  path: string;
  label: string;
  readOnly?: boolean;
  /** Lines that stand out, from 1. */
  marked?: number[];
  onChange?: (text: string) => void;
  onBlur?: () => void;
}

/** An editor, or a text that is only shown. */
export interface Pane {
  text(): string;
  /** Another text, with the cursor and the undo steps where they were. */
  set(text: string): void;
  /** Whether nothing can be typed for the time being. */
  hold(held: boolean): void;
  focus(): void;
  /** Shows a line, from 1, with the cursor at its begin. */
  go(line: number): void;
  destroy(): void;
}

const foreign = Annotation.define<boolean>();

const look = EditorView.theme({
  "&": { height: "100%", backgroundColor: "transparent", color: "var(--ink)", fontSize: "13.5px" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6", overflow: "auto" },
  ".cm-content": { padding: "10px 0 40px", caretColor: "var(--ink)" },
  ".cm-line": { padding: "0 16px 0 8px" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--ink-2)", border: "none", paddingLeft: "8px" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "transparent" },
  "&.cm-focused .cm-activeLine": { backgroundColor: "var(--line-at)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)", borderLeftWidth: "2px" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { background: "var(--selection)" },
  ".cm-selectionMatch": { backgroundColor: "var(--accent-soft)" },
  ".cm-matchingBracket, &.cm-focused .cm-matchingBracket": { backgroundColor: "var(--accent-soft)", outline: "1px solid var(--line-strong)" },
  ".cm-marked": { backgroundColor: "var(--warn-soft)" },
  ".cm-panels": { backgroundColor: "var(--sunken)", color: "var(--ink)", borderTop: "1px solid var(--line)", fontFamily: "var(--sans)" },
  // Its place is kept, so that nothing moves with the focus.
  ".cm-way-out": { padding: "2px 8px", fontSize: "12px", color: "var(--ink-2)", visibility: "hidden" },
  "&.cm-focused .cm-way-out": { visibility: "visible" },
  ".cm-panels:has(> .cm-way-out:only-child)": { backgroundColor: "transparent", borderTop: "none" },
  ".cm-textfield": { backgroundColor: "var(--surface)", border: "1px solid var(--line-strong)", borderRadius: "5px" },
  ".cm-button": { backgroundImage: "none", backgroundColor: "var(--surface)", border: "1px solid var(--line-strong)", borderRadius: "5px" },
  ".cm-searchMatch": { backgroundColor: "var(--warn-soft)", outline: "1px solid var(--line-strong)" },
});

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], color: "var(--syn-word)" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: "var(--syn-text)" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--syn-number)" },
  { tag: [tags.comment, tags.meta], color: "var(--ink-2)", fontStyle: "italic" },
  { tag: [tags.typeName, tags.className, tags.tagName, tags.namespace], color: "var(--syn-type)" },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName), tags.labelName], color: "var(--syn-call)" },
  { tag: [tags.heading, tags.strong], fontWeight: "650" },
  { tag: tags.emphasis, fontStyle: "italic" },
  { tag: [tags.link, tags.url], color: "var(--accent)", textDecoration: "underline" },
  { tag: tags.invalid, color: "var(--bad)" },
]);

const languages: [RegExp, () => Extension][] = [
  [/\.(md|markdown)$/i, () => markdown()],
  [/\.(ts|mts|cts)$/i, () => javascript({ typescript: true })],
  [/\.tsx$/i, () => javascript({ typescript: true, jsx: true })],
  [/\.(js|mjs|cjs|jsx)$/i, () => javascript({ jsx: true })],
  [/\.rs$/i, () => rust()],
  [/\.(json|jsonc)$/i, () => json()],
  [/\.py$/i, () => python()],
  [/\.(html?|vue|svg|xml)$/i, () => html()],
  [/\.(css|scss)$/i, () => css()],
  [/\.(ya?ml)$/i, () => yaml()],
];

/** Tab indents: it is told how keys come out. */
const WAY_OUT = "way-out";

function wayOut(): Panel {
  const dom = document.createElement("div");
  dom.id = WAY_OUT;
  dom.className = "cm-way-out";
  dom.textContent = "Tab indents. To go on from here: Esc, then Tab.";
  return { dom };
}

/** Bytes beyond which colours cost more than they tell. */
const COLOURED_MAX = 1 << 20;

function language(path: string, text: string): Extension {
  // Marks of conflicts are no text of the language.
  if (text.length > COLOURED_MAX || /^<{7} /m.test(text)) return [];
  return languages.find(([names]) => names.test(path))?.[1]() ?? [];
}

/** Every line ends in CR LF: then new lines do, too. Else each CR is a letter like others, and stays. */
function isDos(text: string): boolean {
  return text.includes("\r\n") && !/(^|[^\r])\n|\r(?!\n)/.test(text);
}

/**
 * An editor in a shadow root of its own: there its styles are constructed and not written into the page, which a strict policy of the
 * page would refuse.
 */
export function openPane(host: HTMLElement, options: PaneOptions): Pane {
  const box = document.createElement("div");
  host.replaceChildren(box);
  const root = box.attachShadow({ mode: "open" });
  const separator = isDos(options.text) ? "\r\n" : "\n";
  const marked = new Set(options.marked);
  const typing = new Compartment();
  const state = EditorState.create({
    doc: options.text,
    extensions: [
      EditorState.lineSeparator.of(separator),
      lineNumbers(), history(), drawSelection(), bracketMatching(), indentOnInput(), highlightSelectionMatches(), search({ top: false }),
      highlightActiveLine(), EditorView.lineWrapping,
      keymap.of([...defaultKeymap, ...historyKeymap, ...searchKeymap, indentWithTab]),
      language(options.path, options.text), syntaxHighlighting(colours), look,
      typing.of(EditorState.readOnly.of(options.readOnly ?? false)),
      EditorView.contentAttributes.of({ "aria-label": options.label, spellcheck: "false", ...(options.readOnly ? {} : { "aria-describedby": WAY_OUT }) }),
      options.readOnly ? [] : showPanel.of(wayOut),
      EditorView.decorations.of((view) => {
        const decorated = [...marked].filter((line) => line <= view.state.doc.lines).sort((a, b) => a - b);
        return Decoration.set(decorated.map((line) => Decoration.line({ class: "cm-marked" }).range(view.state.doc.line(line).from)));
      }),
      EditorView.updateListener.of((update) => {
        const theirs = update.transactions.some((transaction) => transaction.annotation(foreign));
        if (update.docChanged && !theirs) options.onChange?.(update.state.sliceDoc());
      }),
      EditorView.domEventHandlers({ blur: () => options.onBlur?.() }),
    ],
  });
  const view = new EditorView({ state, parent: root, root });
  const set = (text: string): void => {
    const changes = changesTo(view.state.sliceDoc(), text, separator);
    if (changes.length > 0) view.dispatch({ changes, annotations: [foreign.of(true), Transaction.addToHistory.of(false)] });
  };
  const go = (line: number): void => {
    const { from } = view.state.doc.line(Math.min(Math.max(line, 1), view.state.doc.lines));
    view.dispatch({ selection: { anchor: from }, effects: EditorView.scrollIntoView(from, { y: "center" }) });
    view.focus();
  };
  const hold = (held: boolean): void => view.dispatch({ effects: typing.reconfigure(EditorState.readOnly.of(held || (options.readOnly ?? false))) });
  return { text: () => view.state.sliceDoc(), set, go, hold, focus: () => view.focus(), destroy: () => view.destroy() };
}

/** Changes in the editor's own places, where every line end counts one. */
function changesTo(before: string, after: string, separator: string): ChangeSpec[] {
  const plain = (text: string): string => (separator === "\n" ? text : text.replaceAll(separator, "\n"));
  const old = splitLines(plain(before));
  const starts = [0];
  for (const line of old) starts.push(starts.at(-1)! + line.length);
  return lineChanges(old, splitLines(plain(after))).map(({ from, to, lines }) => {
    // The separator is what the editor splits inserted text by.
    return { from: starts[from]!, to: starts[to]!, insert: lines.join("").replaceAll("\n", separator) };
  });
}

/** The lines of a text that another does not have, from 1. */
export function changedLines(base: string | null | undefined, text: string | null | undefined): number[] {
  if (base == null || text == null) return [];
  const marked: number[] = [];
  let shift = 0;
  for (const { from, to, lines } of lineChanges(splitLines(base), splitLines(text))) {
    for (let at = 0; at < lines.length; at++) marked.push(from + shift + at + 1);
    shift += lines.length - (to - from);
  }
  return marked;
}
