//! What the loader says: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, Write};

/// Says things. A closed stream is no reason to stop, so failures to write are ignored.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    verbose: bool,
}

impl Report {
    /// With `verbose` also details are said.
    pub fn new(verbose: bool) -> Self {
        Self { verbose }
    }

    /// A result that was asked for, on standard output.
    pub fn line(self, text: impl Display) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Something that happened.
    pub fn event(self, text: impl Display) {
        let _ = writeln!(io::stderr(), "vxlan-loader: {text}");
    }

    /// Something that somebody should look at.
    pub fn warning(self, text: impl Display) {
        self.event(format_args!("warning: {text}"));
    }

    /// Something for those who look closely.
    pub fn detail(self, text: impl Display) {
        if self.verbose {
            self.event(text);
        }
    }

    /// Warnings of one kind: the first few, and how many more there are.
    pub fn warnings(self, texts: &[String]) {
        const NAMED: usize = 5;
        texts.iter().take(NAMED).for_each(|text| self.warning(text));
        if let Some(more) = texts.len().checked_sub(NAMED).filter(|more| *more > 0) {
            self.warning(format_args!("and {more} more like these"));
        }
    }
}
