import type { ProjectView, Treehold } from "treehold";
import { bytes, count } from "./parts.js";
import { Size } from "./projects.js";
import { useAsked } from "./watch.js";

/** Projects whose size is asked for, and at once. */
const ASKED_MAX = 100;
const AT_ONCE = 4;
const SHOWN = 10;

/** What projects hold, by servers that count it: the largest ones first. */
export function Storage({ treehold }: { treehold: Treehold }) {
  const { value: projects = [] } = useAsked((signal) => sizes(treehold, signal), treehold);
  const held = projects.reduce((total, { usage }) => total + (usage?.bytes ?? 0), 0);
  if (projects.length === 0) return null;
  return (
    <section class="card" aria-label="Storage">
      <header><h2 class="grow">Storage</h2><span class="small quiet">{bytes(held)} in {count(projects.length, "project")}{projects.length === ASKED_MAX && ", more are not counted here"}</span></header>
      <table class="stacked">
        <thead><tr><th>Project</th><th>Holds</th></tr></thead>
        <tbody>{projects.slice(0, SHOWN).map(({ id, name, usage }) => (
          <tr key={id}><td><a class="name" href={`#/p/${id}/files`}>{name ?? id}</a></td><td class="small">{usage && <Size usage={usage} />}</td></tr>
        ))}</tbody>
      </table>
    </section>
  );
}

async function sizes(treehold: Treehold, signal: AbortSignal): Promise<ProjectView[]> {
  const { projects } = await treehold.projects({ limit: ASKED_MAX, signal }).page();
  const [first, ...rest] = projects;
  // A server that does not count is asked once.
  const seen = first ? [await treehold.showProject(first.id, { signal })] : [];
  if (!seen[0]?.usage) return [];
  const ask = async (): Promise<void> => {
    for (let next = rest.pop(); next; next = rest.pop()) seen.push(await treehold.showProject(next.id, { signal }));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, ask));
  return seen.filter(({ usage }) => usage).sort((a, b) => (b.usage?.bytes ?? 0) - (a.usage?.bytes ?? 0));
}
