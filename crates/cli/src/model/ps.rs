//! A process with probes in it, as `trapline ps` lists it.

use serde::{Deserialize, Serialize};

/// One row. What is not known is null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) process: u32,
    pub(crate) name: String,
    /// Functions that are armed.
    pub(crate) functions: Option<u64>,
    pub(crate) hits: Option<u64>,
    /// Hits that were lost, for all reasons.
    pub(crate) lost: Option<u64>,
    /// Memory of the image and of the segment, in bytes.
    pub(crate) memory: Option<u64>,
    /// Since it was armed, in seconds.
    pub(crate) age_s: Option<u64>,
    /// The trapline that counts there and has not ended.
    pub(crate) trapline: Option<u32>,
    /// Whether it was armed to stay so.
    pub(crate) background: bool,
    pub(crate) specs: Vec<String>,
    /// Why the counters cannot be read.
    pub(crate) why: Option<String>,
}
