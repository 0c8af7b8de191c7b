//! What a segment says of its recording, for whoever finds it without the trapline that made it.

use super::origin::Origin;
use super::recording::{Header, Weight};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;

/// The text in the segment, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) trapline: String,
    pub(crate) command: Vec<String>,
    pub(crate) specs: Vec<String>,
    pub(crate) host: String,
    pub(crate) kernel: String,
    /// Seconds since 1970.
    pub(crate) started: u64,
    pub(crate) weight: Weight,
    /// As the option says it.
    pub(crate) stack: String,
    /// Whether it goes on without the trapline that began it.
    #[serde(default)]
    pub(crate) background: bool,
}

impl Meta {
    /// Of a run that starts now.
    pub(crate) fn now(
        command: &[OsString],
        specs: Vec<String>,
        weight: Weight,
        stack: String,
    ) -> Self {
        let Origin { trapline, command, specs, host, kernel, started } =
            Origin::now(command, specs);
        let background = false;
        Self { trapline, command, specs, host, kernel, started, weight, stack, background }
    }

    /// Of probes that stay armed from now on.
    pub(crate) fn in_background(command: &[OsString], specs: Vec<String>) -> Self {
        let meta = Self::now(command, specs, Weight::Calls, String::new());
        Self { background: true, ..meta }
    }

    /// The same in a report.
    pub(crate) fn origin(&self) -> Origin {
        let Self { trapline, command, specs, host, kernel, started, .. } = self.clone();
        Origin { trapline, command, specs, host, kernel, started }
    }

    /// The same in a recording.
    pub(crate) fn header(&self) -> Header {
        let Self { trapline, command, specs, host, kernel, started, weight, stack, .. } =
            self.clone();
        Header {
            trapline,
            command,
            specs,
            host,
            kernel,
            started,
            weight,
            stack,
            ..Header::default()
        }
    }

    /// As bytes that fit a segment: a command line that is too long is cut.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut meta = self.clone();
        loop {
            let bytes = serde_json::to_vec(&meta).unwrap_or_default();
            let longest = if meta.command.len() > meta.specs.len() {
                &mut meta.command
            } else {
                &mut meta.specs
            };
            if bytes.len() <= ROOM || longest.is_empty() {
                return bytes;
            }
            longest.truncate(longest.len() / 2);
        }
    }
}

/// Less than a segment has room for.
const ROOM: usize = 60_000;

#[cfg(test)]
mod tests {
    use super::{Meta, ROOM};
    use crate::model::recording::Weight;

    #[test]
    fn a_long_command_line_is_cut_and_the_rest_is_there() {
        let command: Vec<_> = (0..100_000).map(|n| format!("argument{n}").into()).collect();
        let meta =
            Meta::now(&command, vec!["malloc".to_string()], Weight::Time, "fp:16".to_string());
        let bytes = meta.bytes();
        assert!(bytes.len() <= ROOM);
        let read: Meta = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            (&read.command[0], &read.specs, read.weight),
            (&"argument0".to_string(), &meta.specs, Weight::Time)
        );
        let short = Meta::now(&["ls".into()], vec![], Weight::Calls, String::new());
        assert_eq!(serde_json::from_slice::<Meta>(&short.bytes()).unwrap(), short);
    }
}
