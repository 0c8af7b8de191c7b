//! What the figures of a run do not hold: programs that ran without the agent, processes that go
//! on, and functions where they are inlined.

use crate::human;
use serde::{Deserialize, Serialize};

/// A program that was executed without the agent: nothing of it is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct NotFollowed {
    pub(crate) program: String,
    pub(crate) reason: String,
}

/// A traced process that went on when the report was made: what it does later is not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StillRunning {
    pub(crate) process: u32,
    /// What it was called then.
    pub(crate) name: String,
}

/// A process with the image in it, which ran already when the tracing began, or was started so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    pub(crate) process: u32,
    /// What it was called then.
    pub(crate) name: String,
    /// Whether it was started by this command line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) started: bool,
    /// What became of it when the tracing was over.
    pub(crate) after: After,
    /// Why its probes stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// What became of a process that ran already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum After {
    /// Its code is as before, and it goes on.
    Running,
    /// It ended before, or executed another program.
    Ended,
    /// Its code could not be put back: the probes stay, and count for nobody.
    Probed,
}

/// A function whose probe the program, or another tool, has written over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Overwritten {
    pub(crate) object: String,
    pub(crate) name: String,
}

/// A function that is called, and inlined elsewhere: its calls there are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inlined {
    pub(crate) object: String,
    pub(crate) name: String,
    /// How often.
    pub(crate) places: u64,
    /// The functions that have it in them.
    pub(crate) within: Vec<String>,
}

/// Inlined functions that are named, and functions in which one of them is.
const MOST_NAMED: usize = 3;

impl Inlined {
    /// `hot is inlined at 3 places in f, g`.
    pub(crate) fn sentence(&self) -> String {
        let places = human::grouped(self.places);
        let what = if self.places == 1 { "place" } else { "places" };
        let within = first_of(self.within.clone()).join(", ");
        format!("{} is inlined at {places} {what} in {within}", self.name)
    }
}

/// The first few of `all`, and how many more there are.
pub(crate) fn first_of(mut all: Vec<String>) -> Vec<String> {
    let more = all.len().saturating_sub(MOST_NAMED);
    all.truncate(MOST_NAMED);
    all.extend((more > 0).then(|| format!("{more} more")));
    all
}
