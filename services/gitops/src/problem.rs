//! Problems that are reported while the walk continues.

use std::fmt;

/// The consequence of a problem for the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The lanes that the file is about keep what they ran.
    LaneKept,
    /// The file, or a part of it, is about no lane: nothing is recorded of it.
    Skipped,
    /// The change is recorded, and may not be what it seems.
    Recorded,
}

/// A problem with a file or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The commit, in full.
    pub commit: String,
    /// The file; `None` if the problem is with the commit itself.
    pub path: Option<String>,
    /// The consequence for the events.
    pub consequence: Consequence,
    /// The problem, and what to do.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.commit.get(..12).unwrap_or(&self.commit);
        let consequence = match self.consequence {
            Consequence::LaneKept => "the lane keeps what it ran",
            Consequence::Skipped => "nothing is recorded",
            Consequence::Recorded => "recorded all the same",
        };
        match &self.path {
            Some(path) => write!(f, "{short} {path}: {} ({consequence})", self.detail),
            None => write!(f, "{short}: {} ({consequence})", self.detail),
        }
    }
}
