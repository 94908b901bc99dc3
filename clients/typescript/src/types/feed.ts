// The feed of changes.
import type { Oid, Pathed, Uuid } from "./shared.js";
import type { Origin } from "./pending.js";

export type EventAction = "modified" | "created" | "deleted" | "dropped" | "committed";
interface EventHead {
  /** Give it as `since` to go on after this event. */
  cursor: string;
  at: string;
}
export interface PendingEvent extends EventHead, Pathed, Origin {
  kind: "pending";
  user: Uuid;
  branch: string;
  action: EventAction;
  mode: string | null;
  oid: Oid | null;
  base_oid: Oid | null;
  revision: number;
}
export interface RefEvent extends EventHead {
  kind: "ref";
  /** Full name. */
  name: string;
  from: Oid | null;
  to: Oid | null;
  /** `commit`, `push`, `sync`, `api` … */
  reason: string;
}
export interface SyncEvent extends EventHead {
  kind: "sync";
  branch: string;
  from: Oid | null;
  to: Oid | null;
}
export interface PushEvent extends EventHead {
  kind: "push";
  branch: string;
  attempt: Uuid;
  commit: Oid;
  user?: Uuid;
  outcome: "pushed" | "rejected" | "paused" | "superseded";
}
export type ChangeEvent = PendingEvent | RefEvent | SyncEvent | PushEvent;
export interface ChangePage {
  events: ChangeEvent[];
  next_cursor: string;
  more: boolean;
}
