import { render } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { TreeholdError, type Treehold } from "treehold";
import { BranchButton, GoneBranch, LeftBehind } from "./branches.js";
import { Changes } from "./changes.js";
import { Checkpoints } from "./checkpoints.js";
import { Conflicts } from "./conflicts.js";
import { FileView } from "./file.js";
import { History } from "./log.js";
import { Operations } from "./operations.js";
import { Empty, Failure, Waiting } from "./parts.js";
import { placeOf, usePlace } from "./place.js";
import { Projects } from "./projects.js";
import { SearchView } from "./search.js";
import { connect, savedKey, savedOnly, savedPerson, signOut, type Person } from "./session.js";
import { SignIn } from "./sign.js";
import { ProjectStore } from "./store.js";
import { Tree } from "./tree.js";
import { Unsaved } from "./unsaved.js";
import { useWatched } from "./watch.js";

function App() {
  const { parts, branch, line } = usePlace();
  const [key, setKey] = useState(savedKey);
  const [person, setPerson] = useState<Person>(savedPerson);
  const treehold = useMemo(() => (key === null ? undefined : connect(key)), [key]);
  if (!treehold) {
    return <div class="page"><SignIn onSigned={(key, person) => (setPerson(person), setKey(key))} /></div>;
  }
  const leave = () => {
    signOut();
    setKey(null);
  };
  const [place, project, tab, path] = parts;
  const only = savedOnly();
  return (
    <div class="page">
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), (document.querySelector("#main") as HTMLElement | null)?.focus())}>To the content</a>
      {place === "p" && project ? (
        <ProjectPage key={`${project}@${branch}`} treehold={treehold} name={project} branch={branch} person={person} tab={tab ?? "files"} path={path} line={line} onLeave={leave} />
      ) : (
        <>
          <Bar person={person} onLeave={leave} at={place === "operations" ? "Operations" : "Projects"} />
          {only !== undefined ? <OneProject id={only} /> : place === "operations" ? <Operations treehold={treehold} /> : <Projects treehold={treehold} person={person} />}
        </>
      )}
    </div>
  );
}

/** What is about more than one project is not for whoever opens one. */
function OneProject({ id }: { id: string }) {
  return <main class="scroll" id="main" tabIndex={-1}><Empty title="You are signed in to one project"><a href={placeOf(id, "files")}>Open it</a></Empty></main>;
}

interface BarProps {
  person: Person;
  at: string;
  onLeave: () => void;
  online?: boolean;
}

function Bar({ person, at, onLeave, online }: BarProps) {
  return (
    <header class="bar">
      <a class="brand" href="#/" aria-label="Treehold: all projects"><img src="console/icon.svg" alt="" /><span class="hide-small">Treehold</span></a>
      <span class="crumb clip grow" aria-live="polite">{at !== "Projects" && at !== "Operations" && <b>{at}</b>}</span>
      {online !== undefined && <span class="link" role="status"><span class={online ? "dot" : "dot off"} aria-hidden="true" /><span class={online ? "hide-small" : ""}>{online ? "Live" : "Offline"}</span></span>}
      <nav class="row" aria-label="Server">
        <a class="small hide-small" href="#/" {...(at === "Projects" ? { "aria-current": "page" as const } : {})}>Projects</a>
        <a class="small" href="#/operations" {...(at === "Operations" ? { "aria-current": "page" as const } : {})}>Operations</a>
      </nav>
      <span class="small quiet hide-small" title={person.user}>{person.name || person.user.slice(0, 8)}</span>
      <button class="plain small" onClick={onLeave}>Sign out</button>
    </header>
  );
}

interface ProjectProps {
  treehold: Treehold;
  name: string;
  branch: string | undefined;
  person: Person;
  tab: string;
  path: string | undefined;
  line: number | undefined;
  onLeave: () => void;
}

function ProjectPage({ treehold, name, branch, person, tab, path, line, onLeave }: ProjectProps) {
  const [store, setStore] = useState<ProjectStore>();
  const [error, setError] = useState<unknown>();
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    let opened: ProjectStore | undefined;
    let gone = false;
    setError(undefined);
    ProjectStore.open(treehold, name, branch, person).then((store) => {
      opened = store;
      if (gone) void store.close();
      else setStore(store);
    }, setError);
    const leaving = (event: BeforeUnloadEvent) => void (opened && opened.unsaved > 0 && event.preventDefault());
    const hidden = () => void (document.hidden && opened?.autosave.flush());
    addEventListener("beforeunload", leaving);
    document.addEventListener("visibilitychange", hidden);
    return () => {
      gone = true;
      removeEventListener("beforeunload", leaving);
      document.removeEventListener("visibilitychange", hidden);
      void opened?.close();
    };
  }, [treehold, name, branch, person, attempt]);
  if (store) return <Opened store={store} tab={tab} path={path} line={line} onLeave={onLeave} />;
  return (
    <>
      <Bar person={person} at={name} onLeave={onLeave} />
      <main class="scroll"><div class="wide">{error === undefined ? <Waiting what="Opening the project" /> : (
        <>
          <Failure error={error}><button class="plain" onClick={() => setAttempt(attempt + 1)}>Try again</button></Failure>
          <Empty title={error instanceof TreeholdError && error.status === 404 ? "There is no such project" : "The project could not be opened"}><a href="#/">All projects</a></Empty>
        </>
      )}</div></main>
    </>
  );
}

const TABS: [string, string][] = [
  ["files", "Files"], ["search", "Search"], ["changes", "Changes"], ["conflicts", "Conflicts"], ["checkpoints", "Checkpoints"], ["log", "History"],
];

interface OpenedProps {
  store: ProjectStore;
  tab: string;
  path: string | undefined;
  line: number | undefined;
  onLeave: () => void;
}

function Opened({ store, tab, path, line, onLeave }: OpenedProps) {
  useWatched(store);
  const { view, status } = store;
  const tabs = useRef<HTMLElement>(null);
  useEffect(() => tabs.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }), [tab]);
  const counts: Record<string, number> = {
    changes: status?.changes.length ?? 0,
    conflicts: status?.changes.filter((change) => change.state === "conflict").length ?? 0,
  };
  const open = (path: string) => (location.hash = store.place("files", path));
  return (
    <>
      <Bar person={store.person} at={view.name ?? view.id} online={store.online} onLeave={onLeave} />
      <nav class="tabs" aria-label="Project" ref={tabs}>
        <BranchButton store={store} tab={tab} path={path} />
        {TABS.map(([id, title]) => (
          <a key={id} href={store.place(id)} {...(tab === id ? { "aria-current": "page" as const } : {})}>
            {title}{counts[id] ? <>{" "}<span class={`count${id === "conflicts" ? " bad" : ""}`}>{counts[id]}</span></> : null}
          </a>
        ))}
      </nav>
      {store.left.length > 0 && <LeftBehind store={store} />}
      <Unsaved store={store} open={tab === "files" ? path : undefined} />
      {store.gone && <GoneBranch store={store} />}
      {store.error !== undefined && !store.gone && <div class="banner"><Failure error={store.error}><button class="plain" onClick={() => (void store.list(), void store.refresh())}>Try again</button></Failure></div>}
      {tab === "search" && <SearchView store={store} />}
      {tab === "checkpoints" && <Checkpoints store={store} />}
      {tab === "changes" && <Changes store={store} />}
      {tab === "conflicts" && <Conflicts store={store} />}
      {tab === "log" && <History key={path} store={store} path={path} />}
      {tab === "files" && (
        <div class={path ? "work" : "work open"} id="main" tabIndex={-1}>
          <Tree store={store} path={path} onOpen={open} />
          {path ? <FileView key={path} store={store} path={path} line={line} onClose={() => (location.hash = store.place("files"))} />
            : <section class="main"><Empty title="Choose a file">Its text is saved by itself while you type, and edits from your other devices appear as they come.</Empty></section>}
        </div>
      )}
    </>
  );
}

render(<App />, document.getElementById("app")!);
