import { useEffect, useRef, useState } from "preact/hooks";
import type { ProjectUsage, ProjectView, Status, Treehold } from "treehold";
import { bytes, Dialog, Empty, Failure, Oid, Waiting, When } from "./parts.js";
import type { Person } from "./session.js";
import { useAsked } from "./watch.js";

/** Projects of one page; more come when asked for. */
const PAGE = 100;

export function Projects({ treehold, person }: { treehold: Treehold; person: Person }) {
  const [projects, setProjects] = useState<ProjectView[]>([]);
  const [cursor, setCursor] = useState<string | null>();
  const [error, setError] = useState<unknown>();
  const [making, setMaking] = useState(false);
  const [sized, setSized] = useState(false);
  const more = async (from?: string) => {
    try {
      const page = await treehold.projects({ limit: PAGE }).page(from);
      setProjects((before) => (from ? [...before, ...page.projects] : page.projects));
      setCursor(page.next_cursor);
      setError(undefined);
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => void more(), [treehold]);
  return (
    <main class="scroll" id="main" tabIndex={-1}>
      <div class="wide stack">
        <div class="row"><h1 class="grow">Projects</h1><button class="primary" onClick={() => setMaking(true)}>New project</button></div>
        {error !== undefined && <Failure error={error}><button class="plain" onClick={() => void more()}>Try again</button></Failure>}
        {cursor === undefined && error === undefined && <Waiting what="Asking the server" />}
        {cursor !== undefined && projects.length === 0 && (
          <div class="card"><Empty title="No project yet">
            Make one here, or bring a repository: <code>treehold import URL --project NAME</code>
          </Empty></div>
        )}
        {projects.length > 0 && (
          <div class="card">
            <table class="stacked">
              <thead><tr><th>Name</th><th>Head</th><th>Remote</th><th>Push state</th>{sized && <th>Size</th>}<th>Made</th></tr></thead>
              <tbody>{projects.map((project) => <Line key={project.id} project={project} treehold={treehold} person={person} sized={sized} onSized={() => setSized(true)} />)}</tbody>
            </table>
          </div>
        )}
        {cursor && <button onClick={() => void more(cursor)}>Show more</button>}
      </div>
      {making && <Make treehold={treehold} onClose={() => setMaking(false)} />}
    </main>
  );
}

interface LineProps {
  project: ProjectView;
  treehold: Treehold;
  person: Person;
  /** Whether the server tells sizes. */
  sized: boolean;
  onSized: () => void;
}

function Line({ project, treehold, person, sized, onSized }: LineProps) {
  const row = useRef<HTMLTableRowElement>(null);
  const seen = useSeen(row);
  const workspace = treehold.project(project.id).workspace({ user: person.user });
  const { value } = useAsked(async (signal) => {
    if (!seen) return undefined;
    const [status, { usage }] = await Promise.all([workspace.status({ signal }), treehold.showProject(project.id, { signal })]);
    if (usage) onSized();
    return { status, usage };
  }, `${project.id} ${seen}`);
  const status = value?.status;
  return (
    <tr ref={row}>
      <td><a class="name" href={`#/p/${project.id}/files`}>{project.name ?? project.id}</a></td>
      <td class="nowrap small">{project.head ? <Oid oid={project.head} /> : "no commit"} <span class="quiet small">{project.default_branch}</span></td>
      <td class="small quiet">{project.remote?.url}</td>
      <td><PushState project={project} status={status} /></td>
      {sized && <td class="small nowrap">{value?.usage && <Size usage={value.usage} />}</td>}
      <td class="small quiet"><When at={project.created_at} /></td>
    </tr>
  );
}

/** Whether it was ever on the screen: what is not seen is not asked for. */
function useSeen(element: { current: Element | null }): boolean {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      setSeen(true);
    });
    observer.observe(element.current!);
    return () => observer.disconnect();
  }, []);
  return seen;
}

/** Bytes, and what of the quota they are. */
export function Size({ usage: { bytes: used, quota_bytes: most } }: { usage: ProjectUsage }) {
  if (most === null) return <>{bytes(used)}</>;
  return (
    <label class="quiet">
      {bytes(used)} of {bytes(most)} {used >= most && <span class="tag bad">full</span>}
      <meter min={0} max={most} high={most * 0.9} value={used} />
    </label>
  );
}

export function PushState({ project, status }: { project: ProjectView; status: Status | undefined }) {
  if (!status) return <span class="quiet small">…</span>;
  const attempt = status.attempts[0];
  return (
    <span class="row">
      {project.remote && status.ahead === 0 && status.behind === 0 && <span class="tag good">up to date</span>}
      {project.remote && status.ahead > 0 && <span class="tag warn" title="Commits that were not pushed: the remote lacks them">{status.ahead} ahead</span>}
      {status.behind > 0 && <span class="tag warn" title="Commits that the remote has and we lack">{status.behind} behind</span>}
      {status.remote_moved && <span class="tag warn">remote moved</span>}
      {!project.remote && <span class="tag">no remote</span>}
      {status.changes.length > 0 && <span class="tag">{status.changes.length} pending</span>}
      {attempt && <span class="tag bad" title={attempt.commit}>push {attempt.state}</span>}
    </span>
  );
}

function Make({ treehold, onClose }: { treehold: Treehold; onClose: () => void }) {
  const [spec, setSpec] = useState({ name: "", branch: "main", remote: "" });
  const [error, setError] = useState<unknown>();
  const make = async (event: Event) => {
    event.preventDefault();
    try {
      const { id } = await treehold.createProject({
        ...(spec.name ? { name: spec.name } : {}), default_branch: spec.branch, ...(spec.remote ? { remote: { url: spec.remote } } : {}),
      });
      onClose();
      location.hash = `#/p/${id}/files`;
    } catch (failure) {
      setError(failure);
    }
  };
  const field = (name: keyof typeof spec) => (event: Event) => setSpec({ ...spec, [name]: (event.target as HTMLInputElement).value });
  return (
    <Dialog title="New project" onClose={onClose}>
      <form class="stack" onSubmit={make}>
        {error !== undefined && <Failure error={error} />}
        <label><span>Name</span><input value={spec.name} onInput={field("name")} autoFocus /></label>
        <label><span>Default branch</span><input value={spec.branch} onInput={field("branch")} required /></label>
        <label><span>Remote, if there is one</span><input value={spec.remote} onInput={field("remote")} placeholder="https://github.com/owner/name" /></label>
        <div class="row"><button class="primary">Make it</button><button type="button" onClick={onClose}>Cancel</button></div>
      </form>
    </Dialog>
  );
}
