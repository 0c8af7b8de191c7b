//! The recordings of `trapline record -o FILE.tlp`.

use super::report::{Report, calls};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;

/// A parsed recording.
pub(crate) struct Recording(pub(crate) Value);

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    ///
    /// If there is none, or not one.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("no recording: {error}"))?;
        let payload = bytes.strip_prefix(b"trapline recording 1\n").ok_or("not a recording")?;
        let mut text = String::new();
        GzDecoder::new(payload)
            .read_to_string(&mut text)
            .map_err(|error| format!("the recording is damaged: {error}"))?;
        serde_json::from_str(&text)
            .map(Self)
            .map_err(|error| format!("the recording is not JSON: {error}"))
    }

    fn array(&self, name: &str) -> &[Value] {
        self.0[name].as_array().map_or(&[], Vec::as_slice)
    }

    /// The stacks: names of their functions, outermost first, and calls. What was inlined comes
    /// behind what it was inlined into.
    pub(crate) fn stacks(&self) -> Vec<(Vec<String>, u64)> {
        let names = |frame: &Value| -> Vec<String> {
            let symbols = self.0["frames"][frame.as_u64().unwrap_or(u64::MAX) as usize]["symbols"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            symbols
                .iter()
                .rev()
                .map(|symbol| symbol["name"].as_str().unwrap_or_default().to_owned())
                .collect()
        };
        let of = |stack: &Value| {
            stack["frames"]
                .as_array()
                .map_or(Vec::new(), |frames| frames.iter().rev().flat_map(names).collect())
        };
        self.array("stacks").iter().map(|stack| (of(stack), calls(stack))).collect()
    }

    /// Calls of the stacks of which `wanted` holds.
    pub(crate) fn calls(&self, wanted: impl Fn(&[String]) -> bool) -> u64 {
        self.stacks().iter().filter(|(names, _)| wanted(names)).map(|(_, calls)| calls).sum()
    }

    /// Hits without a stack, by reason.
    pub(crate) fn no_stack(&self, reason: &str) -> u64 {
        self.0["no_stack"]["reasons"][reason].as_u64().unwrap_or(0)
    }

    /// Why stacks were cut, without those that were not.
    pub(crate) fn cuts(&self) -> Vec<String> {
        self.array("stacks")
            .iter()
            .filter_map(|stack| stack["cut"].as_str())
            .filter(|cut| !cut.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// The same figures as a report of `trapline stat` has them.
    ///
    /// # Errors
    ///
    /// If stacks and functions do not add up.
    pub(crate) fn report(&self) -> Result<Report, String> {
        let hits: u64 = self.array("functions").iter().map(calls).sum();
        let stacks: u64 = self.array("stacks").iter().map(calls).sum();
        let none: u64 = self.0["no_stack"]["functions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|row| row[1].as_u64())
            .sum();
        if hits != stacks + none {
            return Err(format!("{hits} hits, but {stacks} by stack and {none} without"));
        }
        let header = &self.0["header"];
        Ok(Report(json!({
            "functions": self.0["functions"], "hits": hits, "lost": self.0["lost"],
            "skipped": self.0["skipped"],
            "armed": {"detour": header["armed"][0], "breakpoint": header["armed"][1]},
            "elapsed_ns": header["elapsed_ns"], "agent_bytes": header["memory"]["total"],
        })))
    }
}
