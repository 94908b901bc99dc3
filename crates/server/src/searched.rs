//! The answer to a search, made while it goes on.

use treehold_engine::Searching;
use treehold_engine::api::{Found, SearchMode};

use crate::admission::Reserved;
use crate::app::App;
use crate::error::Problem;
use crate::json;
use crate::stream::{Pieces, Shape};

/// An answer in one piece goes on until its end, as it has a limit of its own.
const WHOLE: usize = 64 << 20;
/// What is found that goes out in one piece of a stream, bytes: little, as somebody waits for it.
const PIECE: usize = 4 << 10;

/// A search.
pub(crate) struct SearchPieces {
    searching: Searching,
    mode: SearchMode,
    shape: Shape,
    begun: bool,
    first: bool,
    /// For the contents that wait to be searched, and for those of which is shown what was found.
    memory: Option<Reserved>,
    showing: Option<Reserved>,
}

impl SearchPieces {
    pub(crate) fn new(searching: Searching, mode: SearchMode, shape: Shape) -> Self {
        Self { searching, mode, shape, begun: false, first: true, memory: None, showing: None }
    }

    /// The next step; `None` at the end. What is read takes memory before it is, and gives it back once it was searched.
    async fn step(&mut self, app: &App) -> Result<Option<Vec<Found>>, Problem> {
        let Some(bytes) = app.reading(self.searching.ahead()).await? else { return Ok(None) };
        if self.searching.is_showing() {
            let found = app.reading(self.searching.step(false)).await?;
            self.showing = self.showing.take().filter(|_| self.searching.is_showing());
            return Ok(Some(found));
        }
        let more = match app.reserve(bytes) {
            Ok(more) => Some(more),
            // First what is there is searched, so that what it takes is free.
            Err(problem) if problem.passes() && self.memory.is_some() => None,
            // Who has been told something waits, holding no memory; who has not is told to come again.
            Err(problem) if problem.passes() && self.shape == Shape::Lines && !self.first => {
                Some(app.reserve_in_turn(bytes).await?)
            }
            Err(problem) => return Err(problem),
        };
        let found = app.reading(self.searching.step(more.is_some())).await?;
        let searched = std::mem::replace(&mut self.memory, more);
        self.showing = searched.filter(|_| self.searching.is_showing());
        Ok(Some(found))
    }

    fn end(&self, out: &mut Vec<u8>) -> Result<(), Problem> {
        let mut end = Vec::new();
        json::value(&mut end, self.searching.end())?;
        match self.shape {
            // The object goes on with what the end has.
            Shape::Object => {
                out.extend_from_slice(b"],");
                out.extend_from_slice(end.strip_prefix(b"{").unwrap_or(&end));
            }
            Shape::Lines => {
                out.push(b'\n');
                out.extend_from_slice(&end);
                out.push(b'\n');
            }
        }
        Ok(())
    }
}

impl Pieces for SearchPieces {
    fn whole(&self) -> usize {
        if self.shape == Shape::Lines { 1 } else { WHOLE }
    }

    async fn add(&mut self, app: &App, out: &mut Vec<u8>) -> Result<bool, Problem> {
        let start = out.len();
        if !std::mem::replace(&mut self.begun, true) {
            let entries = if self.mode == SearchMode::Matches { "matches" } else { "files" };
            self.shape.begin(out, self.searching.commit(), Some(self.searching.revision()), entries)?;
        }
        while out.len() < start + PIECE {
            let Some(found) = self.step(app).await? else {
                self.end(out)?;
                return Ok(false);
            };
            let found_some = !found.is_empty();
            for entry in &found {
                self.shape.separate(out, std::mem::take(&mut self.first));
                json::value(out, entry)?;
            }
            if found_some && self.shape == Shape::Lines {
                break;
            }
        }
        Ok(true)
    }
}
