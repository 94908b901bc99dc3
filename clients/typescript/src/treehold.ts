import { problem } from "./errors.js";
import { Transport, type Call, type Options } from "./http.js";
import { Project } from "./project.js";
import { Pages } from "./streams.js";
import type { ForkSpec, ProjectChange, ProjectPage, ProjectSpec, ProjectView } from "./types.js";
import { newUuid } from "./values.js";

/** A server, and the way to all there is on it. */
export class Treehold {
  readonly transport: Transport;

  constructor(options: Options) {
    this.transport = new Transport(options);
  }

  /** One project, by its id or unique name. Nothing is asked of the server yet. */
  project(project: string): Project {
    return new Project(this.transport, project);
  }

  /** Makes a project. Repeating it is safe: its id is chosen here. */
  createProject(spec: ProjectSpec & { id?: string } = {}, call: Call = {}): Promise<ProjectView> {
    const { id = newUuid(), ...json } = spec;
    return this.transport.json({ ...call, method: "PUT", path: `/projects/${encodeURIComponent(id)}`, json });
  }

  showProject(project: string, call: Call = {}): Promise<ProjectView> {
    return this.transport.json({ ...call, path: named(project) });
  }

  /** All projects, in order of id. */
  projects(options: Call & { limit?: number } = {}): Pages<ProjectPage, ProjectView> {
    const { limit, ...call } = options;
    const get = (cursor: string | undefined) =>
      this.transport.json<ProjectPage>({ ...call, path: "/projects", query: { limit, cursor } });
    return new Pages(get, (page) => page.projects);
  }

  changeProject(project: string, change: ProjectChange, call: Call = {}): Promise<ProjectView> {
    return this.transport.json({ ...call, method: "PATCH", path: named(project), json: change, repeatable: true });
  }

  /** Deletes a project for good. */
  async deleteProject(project: string, call: Call = {}): Promise<void> {
    const reply = await this.transport.send({ ...call, method: "DELETE", path: named(project), accept: [404] });
    // Gone already: by the attempt before this one, whose answer did not arrive. Else there never was one.
    if (reply.status === 404 && reply.attempt === 0) {
      throw problem(404, await reply.text(), reply.headers);
    }
    await reply.bytes();
  }

  /** Makes a project with the refs of another. */
  fork(project: string, spec: ForkSpec = {}, call: Call = {}): Promise<ProjectView> {
    return this.transport.json({ ...call, method: "POST", path: `${named(project)}/fork`, json: spec });
  }
}

function named(project: string): string {
  return `/projects/${encodeURIComponent(project)}`;
}
