//! `read_multiple_files`

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use treehold_engine::api::{Encoding, LineRange, Mode, ReadFile, ReadItem, ReadPath, ReadRequest, Source};

use super::{Call, Shown, show};
use crate::bounds;
use crate::host::{Host, Refusal, Work};
use crate::shown;

/// Paths of one call.
const PATHS_MAX: usize = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Args {
    /// 1 to 500 files: a path from the repository's root ("src/main.rs"), or {"path", "start_line", "end_line"} for some lines of it.
    paths: Vec<Asked>,
    /// Read this branch, tag or commit as it was committed, without your pending edits. Left out: your own view.
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// Most bytes of content in the answer (default 100000, about 25000 tokens; at most 1000000).
    max_bytes: Option<u64>,
    /// `next_cursor` of the last answer, with the same paths: goes on exactly where it stopped, at the same snapshot.
    cursor: Option<String>,
    /// Give files that are not UTF-8 in base64. Left out: only their size is told.
    #[serde(default)]
    include_binary: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Asked {
    Whole(String),
    Lines(Lines),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Lines {
    path: String,
    /// First line, from 1.
    start_line: Option<u64>,
    /// Last line, included.
    end_line: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answer {
    /// The commit that was read; null on an empty branch.
    commit: Option<String>,
    /// In the order asked for. Paths after a cut are missing here and come with the cursor.
    files: Vec<File>,
    /// Something is missing: call again with it. Null: this was all.
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct File {
    path: String,
    /// Why this path was not read; the others are not affected.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ItemProblem>,
    /// Blob id: give it as `expected_oid` to replace exactly this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    oid: Option<String>,
    /// Bytes of the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Six octal digits, where it is not 100644.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    /// You have pending edits in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
    /// The file is not UTF-8.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
    /// `utf-8` or `base64`; missing where the content was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_lines: Option<u64>,
    /// The budget ended inside this file: the next answer goes on after these bytes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ItemProblem {
    pub(super) code: String,
    pub(super) detail: String,
}

#[derive(Debug, Serialize, JsonSchema)]
enum Encoded {
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "base64")]
    Base64,
}

pub(crate) async fn run<H: Host>(call: &Call<'_, H>, args: Args) -> Result<Shown, Refusal> {
    if args.paths.is_empty() || args.paths.len() > PATHS_MAX {
        let detail = format!("give 1 to {PATHS_MAX} paths in a call, not {}", args.paths.len());
        return Err(Refusal::new("bad_arguments", detail));
    }
    let asked = args.paths.len();
    let paths = args.paths.into_iter().map(|asked| match asked {
        Asked::Whole(path) => ReadPath::Whole(path),
        Asked::Lines(Lines { path, start_line, end_line }) => ReadPath::Lines(LineRange { path, start_line, end_line }),
    });
    let (reference, user) = call.view(args.reference);
    let request = ReadRequest {
        paths: paths.collect(),
        reference,
        user,
        max_bytes: Some(bounds::budget(args.max_bytes)),
        cursor: args.cursor,
    };
    let (project, binary) = (call.binding.project.clone(), args.include_binary);
    let work = Work::Batch { factor: 1, bytes: bounds::memory(bounds::budget(args.max_bytes)) };
    let read = call.host.run(work, move |engine| async move {
        let reading = engine.batch_read(&project, request).await?;
        let mut reading = if binary { reading } else { reading.without_binary() };
        let mut items = Vec::new();
        loop {
            let more = reading.read().await?;
            if more.is_empty() {
                break;
            }
            items.extend(more);
            if reading.next_cursor().is_some() {
                break;
            }
        }
        Ok((reading.commit(), items, reading.next_cursor().map(str::to_owned)))
    });
    let (commit, items, next_cursor) = read.await?;
    let files = items.into_iter().map(file).collect();
    let answer = Answer { commit: commit.map(|oid| oid.to_string()), files, next_cursor };
    Ok(show(text(&answer, asked), &answer))
}

fn file(item: ReadItem) -> File {
    match item {
        ReadItem::Failed { path, error } => {
            let error = ItemProblem { code: error.code.to_owned(), detail: error.detail };
            File { error: Some(error), ..File::at(path) }
        }
        ReadItem::File(read) => of_read(read),
    }
}

fn of_read(read: ReadFile) -> File {
    use base64::Engine as _;
    let bytes = read.content.bytes();
    let binary = read.content.encoding() == Encoding::Base64;
    let omitted = binary && bytes.is_empty() && read.size > 0;
    let (encoding, content) = match std::str::from_utf8(bytes) {
        _ if omitted => (None, None),
        Ok(text) if !binary => (Some(Encoded::Utf8), Some(text.to_owned())),
        _ => (Some(Encoded::Base64), Some(base64::prelude::BASE64_STANDARD.encode(bytes))),
    };
    File {
        oid: Some(read.oid.to_string()),
        size: Some(read.size),
        mode: (read.mode != Mode(0o100_644)).then(|| read.mode.to_string()),
        pending: read.source == Source::Pending,
        binary,
        encoding,
        content,
        start_line: read.start_line,
        end_line: read.end_line,
        total_lines: read.total_lines,
        truncated: read.truncated,
        ..File::at(read.path)
    }
}

impl File {
    fn at(path: String) -> Self {
        Self {
            path,
            error: None,
            oid: None,
            size: None,
            mode: None,
            pending: false,
            binary: false,
            encoding: None,
            content: None,
            start_line: None,
            end_line: None,
            total_lines: None,
            truncated: false,
        }
    }

    fn head(&self, text: &mut String) {
        _ = write!(text, "==> {}", shown::path(&self.path));
        if let (Some(first), Some(last), Some(total)) = (self.start_line, self.end_line, self.total_lines) {
            _ = write!(text, " lines {first}-{last} of {total}");
        }
        if let (Some(size), Some(oid)) = (self.size, &self.oid) {
            _ = write!(text, " ({size} bytes, oid {oid}{})", if self.pending { ", pending" } else { "" });
        }
        text.push('\n');
    }
}

fn text(answer: &Answer, asked: usize) -> String {
    let content: usize = answer.files.iter().filter_map(|file| file.content.as_ref()).map(String::len).sum();
    let mut text = String::with_capacity(content + answer.files.len() * 128);
    for file in &answer.files {
        file.head(&mut text);
        match (&file.error, &file.content) {
            (Some(error), _) => _ = writeln!(text, "[{}: {}]", error.code, error.detail),
            (None, Some(content)) => {
                text.push_str(content);
                if !content.is_empty() && !content.ends_with('\n') {
                    text.push('\n');
                }
            }
            (None, None) => text.push_str("[not UTF-8; give include_binary for its bytes in base64]\n"),
        }
    }
    if let Some(cursor) = &answer.next_cursor {
        let last = answer.files.last().filter(|file| file.truncated);
        let inside = last.map_or(String::new(), |file| format!(", the last one ({}) in part", shown::path(&file.path)));
        let why = format!("Cut: {} of {asked} entries are here{inside}", answer.files.len());
        shown::goes_on(&mut text, cursor, &why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_and_what_failed_is_said_in_the_text() {
        let whole = File {
            oid: Some("ab".to_owned()),
            size: Some(3),
            encoding: Some(Encoded::Utf8),
            content: Some("abc".to_owned()),
            pending: true,
            ..File::at("a".to_owned())
        };
        let cut = File { truncated: true, content: Some("x\n".to_owned()), ..File::at("b\n==> c".to_owned()) };
        let error = ItemProblem { code: "file_not_found".to_owned(), detail: "There is no file.".to_owned() };
        let failed = File { error: Some(error), ..File::at("no".to_owned()) };
        let answer = Answer { commit: None, files: vec![whole, failed, cut], next_cursor: Some("c1".to_owned()) };
        assert_eq!(
            text(&answer, 9),
            "==> a (3 bytes, oid ab, pending)\nabc\n==> no\n[file_not_found: There is no file.]\n==> \"b\\n==> c\"\nx\n\n\
             [Cut: 3 of 9 entries are here, the last one (\"b\\n==> c\") in part. Call again with the same arguments and cursor \
             \"c1\" for the rest.]"
        );
    }
}
