// The shapes of questions and answers, as the server shows them: snake_case JSON, oids as 40 hex digits, times in RFC 3339.
// They mirror `crates/engine/src/api`, from where the sentences come.
export type * from "./types/shared.js";
export type * from "./types/projects.js";
export type * from "./types/files.js";
export type * from "./types/pending.js";
export type * from "./types/conflicts.js";
export type * from "./types/commits.js";
export type * from "./types/feed.js";
export type * from "./types/search.js";
export type * from "./types/history.js";
export type * from "./types/versions.js";
