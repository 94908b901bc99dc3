import { useEffect, useRef, useState } from "preact/hooks";
import type { Treehold } from "treehold";
import { bytes, count, Failure, Waiting, When } from "./parts.js";
import { Storage } from "./storage.js";

const EVERY_MS = 5_000;
/** The second reading comes sooner, as rates need two. */
const SECOND_MS = 1_000;
/** Points of a plot: ten minutes. */
const POINTS = 120;
const ROUTES_MAX = 15;

interface Metric {
  help: string;
  kind: string;
  samples: { labels: Record<string, string>; value: number }[];
}

type Metrics = Map<string, Metric>;

/** Readings of which rates and quantiles are made: a minute. */
const WINDOW = 12;

/** Prometheus' text format (exposition format 0.0.4). */
export function readMetrics(text: string): Metrics {
  const metrics: Metrics = new Map();
  const of = (name: string): Metric => {
    const metric = metrics.get(name) ?? { help: "", kind: "untyped", samples: [] };
    metrics.set(name, metric);
    return metric;
  };
  for (const line of text.split("\n")) {
    const told = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (told) {
      const metric = of(told[2]!);
      if (told[1] === "HELP") metric.help = told[3]!;
      else metric.kind = told[3]!;
      continue;
    }
    const sample = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!sample) continue;
    const labels: Record<string, string> = {};
    for (const [, name, value] of (sample[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name!] = value!.replace(/\\(.)/g, "$1");
    of(sample[1]!).samples.push({ labels, value: Number(sample[3]) });
  }
  return metrics;
}

interface Reading {
  at: number;
  metrics: Metrics;
}

const sum = (metrics: Metrics, name: string, where: Record<string, string> = {}): number | undefined => {
  const samples = metrics.get(name)?.samples.filter((sample) => Object.entries(where).every(([label, value]) => sample.labels[label] === value));
  return samples && samples.reduce((total, sample) => total + sample.value, 0);
};

/** Labels of a series whose requests are answered when something happens, and not before. */
const waits = ({ route = "" }: Record<string, string>): boolean => route.endsWith("/changes");

interface Chart {
  /** What it is read from; a server that does not tell it has no such plot. */
  name: string;
  title: string;
  help: string;
  show: (value: number) => string;
  /** Labels without which there is nothing to plot. */
  where?: Record<string, string>;
  /** Of a reading, the one before it, and the one a minute before. */
  value: (now: Reading, before: Reading | undefined, minute: Reading | undefined) => number | undefined;
}

const whole = (value: number): string => Math.round(value).toLocaleString("en");

function gauge(title: string, name: string, help: string, show = whole, where?: Record<string, string>): Chart {
  return { name, title, help, show, ...(where ? { where } : {}), value: ({ metrics }) => sum(metrics, name, where) };
}

/** A number of a job's last report. */
function reported(title: string, job: string, number: string, help: string, show = whole): Chart {
  return gauge(title, "treehold_job_report", help, show, { job, number });
}

/** How much a counter rose in a second; a server that began anew begins at nothing. */
function rise(now: Reading, before: Reading | undefined, name: string, where?: Record<string, string>): number | undefined {
  const [to, from] = [sum(now.metrics, name, where), before && sum(before.metrics, name, where)];
  if (to === undefined || from === undefined || !before || to < from) return undefined;
  return (to - from) / ((now.at - before.at) / 1000);
}

/** Seconds within which a share of the requests was answered, from a histogram's rise; as Prometheus' `histogram_quantile`. */
export function quantile(share: number, now: Metrics, before: Metrics | undefined): number | undefined {
  const counts = (metrics: Metrics | undefined): Map<number, number> => {
    const ends = new Map<number, number>();
    for (const { labels, value } of metrics?.get(`${SECONDS}_bucket`)?.samples ?? []) {
      const end = labels["le"] === "+Inf" ? Infinity : Number(labels["le"]);
      if (!waits(labels)) ends.set(end, (ends.get(end) ?? 0) + value);
    }
    return ends;
  };
  const [to, from] = [counts(now), counts(before)];
  const ends = [...to].map(([end, value]): [number, number] => [end, value - (from.get(end) ?? 0)]).sort(([a], [b]) => a - b);
  const all = ends.at(-1)?.[1] ?? 0;
  if (!before || all <= 0 || ends.some(([, value]) => value < 0)) return undefined;
  let [start, below] = [0, 0];
  for (const [end, within] of ends) {
    if (within >= share * all) {
      if (end === Infinity) return start;
      return within === below ? end : start + ((end - start) * (share * all - below)) / (within - below);
    }
    [start, below] = [end, within];
  }
  return start;
}

const seconds = (value: number): string => (value < 1 ? `${(1000 * value).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(1)} s`);
const perSecond = (value: number): string => `${value.toFixed(1)}/s`;

const SECONDS = "treehold_request_seconds";
const REQUESTS = "treehold_requests_total";
const READS = "treehold_cache_reads_total";
const STORED = "treehold_store_stored_bytes";
const HELD = "treehold_projects_held_bytes";
const charts: Chart[] = [
  { name: REQUESTS, title: "Requests", help: "Answered in a second, of all clients.", show: perSecond, value: (now, before) => rise(now, before, REQUESTS) },
  {
    name: REQUESTS, title: "Failed requests", help: "Of these, answered in a second with 5xx.", show: perSecond,
    value: (now, before) => rise(now, before, REQUESTS, { status: "5xx" }),
  },
  {
    name: REQUESTS, title: "Half are answered within", help: "The median of a minute, without requests that wait for changes.", show: seconds,
    value: (now, _, minute) => quantile(0.5, now.metrics, minute?.metrics),
  },
  {
    name: REQUESTS, title: "99 of 100 within", help: "The 99th percentile of a minute, without those.", show: seconds,
    value: (now, _, minute) => quantile(0.99, now.metrics, minute?.metrics),
  },
  { name: READS, title: "Object reads", help: "Objects asked for in a second, wherever they were found.", show: perSecond, value: (now, before) => rise(now, before, READS) },
  {
    name: READS, title: "Found in the cache", help: "Share of these that needed no request to the bucket.", show: (value) => `${(100 * value).toFixed(1)} %`,
    value: (now, before) => {
      const [all, missed] = [rise(now, before, READS), rise(now, before, READS, { tier: "bucket" })];
      return all ? 1 - (missed ?? 0) / all : undefined;
    },
  },
  gauge("Stored", STORED, "Bytes that objects take in the bucket, counted twice a minute, or more rarely where there are many.", bytes),
  {
    name: HELD, title: "Saved by sharing", help: "How many bytes that projects hold there are for each stored one: what several have is stored once, and packed.",
    show: (value) => `${value.toFixed(value < 10 ? 2 : 1)} ×`,
    value: ({ metrics }) => {
      const [held, stored] = [sum(metrics, HELD), sum(metrics, STORED)];
      return stored ? (held ?? 0) / stored : undefined;
    },
  },
  gauge("Cache in memory", "treehold_cache_memory_bytes", "Objects at hand without a disk.", bytes),
  gauge("Cache on disk", "treehold_cache_disk_bytes", "Objects at hand on this machine.", bytes),
  gauge("Open operations", "treehold_open_operations", "Writers to the store at work."),
  gauge("Longest silence", "treehold_longest_silent_operation_seconds", "Seconds without a sign of life of an open operation, at most.", (value) => `${value.toFixed(0)} s`),
  gauge("Unfinished pushes", "treehold_attempts", "Commit attempts that are not final."),
  gauge("Unpushed branches", "treehold_unpushed_branches", "Elsewhere than their remote was last seen."),
  gauge("Condemned objects", "treehold_condemned_objects", "Nothing names them; they wait for their grace."),
  gauge("Doomed keys", "treehold_doomed_keys", "Keys of the bucket whose bytes wait to be deleted."),
  reported("Objects", "gc", "objects", "In the store, when garbage was last collected."),
  reported("Collected", "gc", "collected_bytes", "Bytes that the last collection gave back.", bytes),
  reported("Damage", "verify", "errors", "Errors that the last verification found."),
];

/** What an operator watches, from `/metrics`. */
export function Operations({ treehold }: { treehold: Treehold }) {
  const [readings, setReadings] = useState<Reading[]>([]);
  const [error, setError] = useState<unknown>();
  useEffect(() => {
    const controller = new AbortController();
    const read = async () => {
      try {
        const reply = await treehold.transport.send({ path: "/metrics", signal: controller.signal, retries: 0 });
        const reading = { at: Date.now(), metrics: readMetrics(await reply.text()) };
        setReadings((before) => [...before, reading].slice(-POINTS));
        setError(undefined);
      } catch (failure) {
        if (!controller.signal.aborted) setError(failure);
      }
    };
    void read();
    const timer = setInterval(() => document.hidden || void read(), EVERY_MS);
    const soon = setTimeout(() => void read(), SECOND_MS);
    return () => {
      controller.abort();
      clearInterval(timer);
      clearTimeout(soon);
    };
  }, [treehold]);
  const last = readings.at(-1);
  return (
    <main class="scroll" id="main" tabIndex={-1}>
      <div class="wide stack">
        <div class="row"><h1 class="grow">Operations</h1><span class="small quiet">this server, every {EVERY_MS / 1000} s while the page is open</span></div>
        {error !== undefined && <Failure error={error} />}
        {!last && error === undefined && <Waiting what="Asking the server" />}
        {last && <div class="plots">{charts.map((chart) => <Plot key={chart.title} chart={chart} readings={readings} />)}</div>}
        <Storage treehold={treehold} />
        {last && <Jobs metrics={last.metrics} />}
        {last && <Routes metrics={last.metrics} />}
        {last && <All metrics={last.metrics} />}
      </div>
    </main>
  );
}

function Plot({ chart, readings }: { chart: Chart; readings: Reading[] }) {
  const values = readings.map((reading, at) => chart.value(reading, readings[at - 1], readings[Math.max(0, at - WINDOW)]));
  const known = values.filter((value) => value !== undefined);
  const last = values.at(-1);
  // At first the plot is of two minutes, so that something is to be seen.
  const span = Math.max(24, values.length);
  const most = Math.max(...known, 1e-9) * 1.1;
  const points = values.flatMap((value, at) => (value === undefined ? [] : [[(at + span - values.length) / (span - 1) * 100, 60 - (value / most) * 56] as const]));
  const line = points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" ");
  const [from, to] = [points[0], points.at(-1)];
  const metric = readings.at(-1)?.metrics.get(chart.name);
  const { where } = chart;
  if (!metric || (where && !metric.samples.some(({ labels }) => Object.entries(where).every(([label, value]) => labels[label] === value)))) return null;
  return (
    <figure class="card plot">
      <h3><span>{chart.title}</span><b>{last === undefined ? "–" : chart.show(last)}</b></h3>
      <p>{chart.help}</p>
      <svg viewBox="0 0 100 62" preserveAspectRatio="none" role="img" aria-label={`${chart.title}: ${last === undefined ? "not known yet" : chart.show(last)}, at most ${chart.show(Math.max(0, ...known))} since the page was opened`}>
        <line class="ground" x1="0" y1="60.5" x2="100" y2="60.5" />
        {from && to && <polygon class="under" points={`${from[0]},60 ${line} ${to[0]},60`} />}
        <polyline class="curve" points={line} />
      </svg>
    </figure>
  );
}

function Jobs({ metrics }: { metrics: Metrics }) {
  const jobs = new Map<string, { finished?: number; running?: boolean; numbers: [string, number][] }>();
  const of = (name: string) => {
    const job = jobs.get(name) ?? { numbers: [] };
    jobs.set(name, job);
    return job;
  };
  for (const { labels, value } of metrics.get("treehold_job_finished_timestamp_seconds")?.samples ?? []) of(labels["job"]!).finished = value;
  for (const { labels, value } of metrics.get("treehold_job_running")?.samples ?? []) of(labels["job"]!).running = value === 1;
  for (const { labels, value } of metrics.get("treehold_job_report")?.samples ?? []) of(labels["job"]!).numbers.push([labels["number"]!, value]);
  return (
    <section class="card" aria-label="Jobs">
      <header><h2 class="grow">Collection, verification, manifests</h2></header>
      {jobs.size === 0 ? <p class="body quiet">None was done yet.</p> : (
        <table class="stacked">
          <thead><tr><th>Job</th><th>Done to the end</th><th>What it said last</th></tr></thead>
          <tbody>{[...jobs].map(([name, job]) => {
            const errors = job.numbers.find(([number]) => number === "errors")?.[1] ?? 0;
            return (
              <tr key={name}>
                <td><span class="name">{name}</span> {job.running && <span class="tag good">at work</span>} {errors > 0 && <span class="tag bad">damage was found</span>}</td>
                <td class="small">{job.finished ? <When at={new Date(job.finished * 1000).toISOString()} /> : "never"}</td>
                <td class="small quiet">{job.numbers.map(([number, value]) => `${number} ${value.toLocaleString("en")}`).join(" · ")}</td>
              </tr>
            );
          })}</tbody>
        </table>
      )}
    </section>
  );
}

/** Which requests take the server's time, since it began. */
function Routes({ metrics }: { metrics: Metrics }) {
  const routes = new Map<string, { asked: number; total: number }>();
  const of = ({ method, route }: Record<string, string>) => {
    const found = routes.get(`${method} ${route}`) ?? { asked: 0, total: 0 };
    routes.set(`${method} ${route}`, found);
    return found;
  };
  for (const { labels, value } of metrics.get(`${SECONDS}_count`)?.samples ?? []) if (!waits(labels)) of(labels).asked += value;
  for (const { labels, value } of metrics.get(`${SECONDS}_sum`)?.samples ?? []) if (!waits(labels)) of(labels).total += value;
  const most = [...routes].filter(([, { asked }]) => asked > 0).sort(([, a], [, b]) => b.total - a.total).slice(0, ROUTES_MAX);
  if (most.length === 0) return null;
  return (
    <details class="file">
      <summary>Which requests take the time</summary>
      <table class="stacked">
        <thead><tr><th>Request</th><th>Answered</th><th>Mean</th><th>In all</th></tr></thead>
        <tbody>{most.map(([name, { asked, total }]) => (
          <tr key={name}><td><code>{name}</code></td><td class="small">{count(asked, "time")}</td><td class="small">{seconds(total / asked)}</td><td class="small">{seconds(total)}</td></tr>
        ))}</tbody>
      </table>
    </details>
  );
}

function All({ metrics }: { metrics: Metrics }) {
  const table = useRef<HTMLTableElement>(null);
  return (
    <details class="file">
      <summary>Everything that the server tells</summary>
      <table ref={table}>
        <thead><tr><th>Metric</th><th>Value</th></tr></thead>
        <tbody>{[...metrics].filter(([, metric]) => metric.samples.length > 0 && metric.samples.length <= 40).map(([name, metric]) => (
          <tr key={name}>
            <td><code>{name}</code><p class="small quiet">{metric.help}</p></td>
            <td class="num small">{metric.samples.map(({ labels, value }) => <div>{Object.values(labels).join(" ")} {value.toLocaleString("en")}</div>)}</td>
          </tr>
        ))}</tbody>
      </table>
    </details>
  );
}
