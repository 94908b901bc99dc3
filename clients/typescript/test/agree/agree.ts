// The client's types beside those that openapi-typescript makes from the server's document. Compiled by `agree.test.ts`, never run.
import type { components } from "../../build/openapi.js";
import type * as own from "../../src/types.js";

type Served = components["schemas"];

/** What the server says must be what the client says that it gets. */
interface Answers {
  ProjectView: own.ProjectView;
  ProjectPage: own.ProjectPage;
  FileEntry: own.FileEntry;
  FileList: own.FileList;
  ItemError: own.ItemError;
  ReadFile: own.ReadFile;
  ReadItem: own.ReadItem;
  PendingAction: own.PendingAction;
  PendingAnswer: own.PendingAnswer;
  PendingEntry: own.PendingEntry;
  PendingList: own.PendingList;
  DropAnswer: own.DropAnswer;
  PendingVerb: own.PendingVerb;
  OpStatus: own.OpStatus;
  OpConflict: own.OpConflict;
  OpError: own.OpError;
  OpResult: own.OpResult;
  BatchAnswer: own.BatchAnswer;
  ChangeState: own.ChangeState;
  StatusEntry: own.StatusEntry;
  AttemptView: own.AttemptView;
  Status: own.Status;
  MergeSide: own.MergeSide;
  ConflictHunk: own.ConflictHunk;
  ConflictFile: own.ConflictFile;
  ConflictPage: own.ConflictPage;
  CommittedFile: own.CommittedFile;
  CommitAnswer: own.CommitAnswer;
  Conflict: own.Conflict;
  ChangedFile: own.ChangedFile;
  TouchedPending: own.TouchedPending;
  SyncAnswer: own.SyncAnswer;
  PushAnswer: own.PushAnswer;
  EventAction: own.EventAction;
  ChangeEvent: own.ChangeEvent;
  ChangePage: own.ChangePage;
  Found: own.Found;
  TreeChange: own.TreeChange;
  DiffFile: own.DiffFile;
  Diff: own.Diff;
  TreeDiff: own.TreeDiff;
  Person: own.Person;
  LogEntry: own.LogEntry;
  LogPage: own.LogPage;
  BlameRange: own.BlameRange;
  Blame: own.Blame;
  RefView: own.RefView;
  RefList: own.RefList;
  ReflogView: own.ReflogView;
  ReflogPage: own.ReflogPage;
  VersionEntry: own.VersionEntry;
  VersionList: own.VersionList;
  CheckpointEntry: own.CheckpointEntry;
  CheckpointList: own.CheckpointList;
  CheckpointDetail: own.CheckpointDetail;
  CheckpointRestored: own.CheckpointRestored;
}
/** What the client lets one send must be what the server takes. */
interface Requests {
  ProjectSpec: own.ProjectSpec;
  ForkSpec: own.ForkSpec;
  ProjectChange: own.ProjectChange;
  LineRange: own.LineRange;
  PendingOp: own.PendingOp;
  PendingBatch: own.PendingBatch;
  ResolveFile: own.ResolveFile;
  Author: own.Author;
  CommitRequest: own.CommitRequest;
  CommitAction: own.CommitAction;
  ActionsRequest: own.ActionsRequest;
  SyncRequest: own.SyncRequest;
  SearchRequest: own.SearchRequest;
  RefRequest: own.RefRequest;
  PromoteRequest: own.PromoteRequest;
}

/** In answers a member that may be left out is left out, never `null`. */
type Told<T> = T extends object
  ? { [K in keyof T]: undefined extends T[K] ? Told<Exclude<T[K], null>> : Told<T[K]> }
  : T;
/** The names of types that differ, with what does not fit into what. */
type Misfits<Checked> = { [Name in keyof Checked as Checked[Name] extends true ? never : Name]: Checked[Name] };
type Fits<A, Into> = [A] extends [Into] ? true : { this: A; does_not_fit: Into };
type Unknown<Own> = Exclude<keyof Own, keyof Served>;

export const unknown: Unknown<Answers> | Unknown<Requests> extends never ? true : false = true;
export const answers: Misfits<{ [Name in keyof Answers & keyof Served]: Fits<Told<Served[Name]>, Answers[Name]> }> = {};
export const requests: Misfits<{ [Name in keyof Requests & keyof Served]: Fits<Requests[Name], Served[Name]> }> = {};
