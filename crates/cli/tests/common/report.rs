//! The report of `trapline stat -j`.

use std::path::Path;

use serde_json::Value;

/// A parsed report.
pub(crate) struct Report(pub(crate) Value);

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    ///
    /// If there is none, or not one JSON object.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("no report: {error}"))?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| format!("the report is not JSON: {error}:\n{text}"))?;
        Ok(Self(value))
    }

    fn array(&self, name: &str) -> &[Value] {
        self.0[name].as_array().map_or(&[], Vec::as_slice)
    }

    /// The functions of the report.
    pub(crate) fn functions(&self) -> &[Value] {
        self.array("functions")
    }

    /// Calls of all functions for which `wanted` holds.
    pub(crate) fn sum(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        self.functions().iter().filter(|f| f["name"].as_str().is_some_and(&wanted)).map(calls).sum()
    }

    /// Calls of the functions of this name, in whatever object.
    pub(crate) fn calls(&self, name: &str) -> u64 {
        self.sum(|other| other == name)
    }

    /// A time of the function of this name, in nanoseconds.
    pub(crate) fn time(&self, name: &str, column: &str) -> u64 {
        let function = self.functions().iter().find(|f| f["name"].as_str() == Some(name));
        let time = function.and_then(|f| f[column].as_f64());
        time.unwrap_or_else(|| panic!("no {column} of {name}")) as u64
    }

    /// Why functions of this name were skipped.
    pub(crate) fn skipped(&self, name: &str) -> Vec<String> {
        self.array("skipped")
            .iter()
            .filter(|s| s["name"].as_str() == Some(name))
            .map(|s| s["reason"].to_string())
            .collect()
    }

    /// How many functions were armed.
    pub(crate) fn armed(&self) -> u64 {
        self.0["armed"]
            .as_object()
            .map_or(0, |methods| methods.values().filter_map(Value::as_u64).sum())
    }

    /// Hits that were lost, by reason, without zeros.
    pub(crate) fn lost(&self) -> Vec<(String, u64)> {
        let lost = self.0["lost"].as_object().into_iter().flatten();
        lost.filter_map(|(reason, n)| Some((reason.clone(), n.as_u64()?)))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// What holds in every report.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for key in ["functions", "hits", "lost", "armed", "skipped", "elapsed_ns", "agent_bytes"] {
            if self.0.get(key).is_none() {
                problems.push(format!("the report has no \"{key}\""));
            }
        }
        let mut hits = 0;
        for function in self.functions() {
            hits += calls(function);
            let number = |key: &str| function[key].as_u64();
            // The total is that of outermost calls that have returned. And what a signal handler
            // calls while the same function is just being entered or left is part of it by the
            // nesting, but not by the clock.
            let all_returned = number("running") == Some(0) && number("unwound") == Some(0);
            let most = number("total_ns").map(|total| total + total / 100);
            if all_returned && number("self_ns") > most {
                problems.push(format!("{function}: more time of its own than in total"));
            }
            if number("p50_ns") > number("p90_ns") || number("p90_ns") > number("p99_ns") {
                problems.push(format!("{function}: percentiles are out of order"));
            }
            if number("p99_ns") > number("max_ns") {
                problems.push(format!("{function}: a percentile passes the maximum"));
            }
            if number("max_ns").is_none() && number("running").is_none() {
                problems.push(format!("{function}: nobody knows how many calls run"));
            }
        }
        if self.0["hits"].as_u64().is_some_and(|n| n < hits) {
            problems.push(format!("{} hits are fewer than {hits} calls", self.0["hits"]));
        }
        problems
    }
}

/// Calls of one function.
pub(crate) fn calls(function: &Value) -> u64 {
    function["calls"].as_u64().unwrap_or(0)
}
