//! Progress of long work: a bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use treehold_engine::Progress;

/// A bar on stderr, drawn only if that is a terminal.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    shown: Mutex<(String, Option<u64>)>,
}

impl Bar {
    /// A bar that is not drawn before the first step.
    pub fn new() -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        Self { bar: ProgressBar::with_draw_target(None, target), shown: Mutex::default() }
    }

    /// Clears the line, so that the answer stands alone.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn restyle(&self, what: &str, total: Option<u64>) {
        let bytes = what.to_ascii_lowercase().contains("byte") || what.starts_with("receiv");
        let template = match (total, bytes) {
            (Some(_), true) => "{msg} [{bar:30}] {bytes}/{total_bytes} {eta}",
            (Some(_), false) => "{msg} [{bar:30}] {human_pos}/{human_len} {eta}",
            (None, true) => "{spinner} {msg} {bytes}, {bytes_per_sec}",
            (None, false) => "{spinner} {msg} {human_pos}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_message(what.to_owned());
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.enable_steady_tick(Duration::from_millis(120)),
        }
    }
}

impl Progress for Bar {
    fn step(&self, what: &str, done: u64, total: Option<u64>) {
        {
            let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if shown.0 != what || shown.1 != total {
                *shown = (what.to_owned(), total);
                self.restyle(what, total);
            }
        }
        self.bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}
