// Local history and checkpoints.
import type { Oid, Page, Pathed, Uuid } from "./shared.js";
import type { PendingAction } from "./pending.js";

export interface VersionEntry extends Pathed {
  /** Names it, together with its user. */
  id: string;
  action: PendingAction;
  oid: Oid | null;
  mode: string | null;
  size: number;
  base_oid: Oid | null;
  revision: number;
  at: string;
  /** `null` = it is pending now. */
  replaced_at: string | null;
}
export interface VersionList extends Page {
  versions: VersionEntry[];
}
export interface CheckpointEntry {
  id: Uuid;
  branch: string;
  name: string;
  message: string;
  revision: number;
  changes: number;
  created_at: string;
}
export interface CheckpointList extends Page {
  checkpoints: CheckpointEntry[];
}
export interface CheckpointDetail extends CheckpointEntry {
  files: (Pathed & { action: PendingAction; oid: Oid | null; mode: string | null; size: number; base_oid: Oid | null })[];
}
export interface CheckpointRestored {
  revision: number;
  changed: number;
  /** The checkpoint that has what was pending before; `null` = nothing changed. */
  before: CheckpointEntry | null;
}
