//! Where figures come from: which program was run, where and when.

use crate::human;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A run, as reports name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Version of trapline.
    pub(crate) trapline: String,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// What was asked for, as written.
    pub(crate) specs: Vec<String>,
    /// Name of the machine.
    pub(crate) host: String,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// When it began, in seconds since 1970.
    pub(crate) started: u64,
}

impl Origin {
    /// Of a run that starts now.
    pub(crate) fn now(command: &[OsString], specs: Vec<String>) -> Self {
        let line = |path| {
            std::fs::read_to_string(path)
                .map(|text| text.trim_end().to_string())
                .unwrap_or_default()
        };
        Self {
            trapline: env!("CARGO_PKG_VERSION").to_string(),
            command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            specs,
            host: line("/proc/sys/kernel/hostname"),
            kernel: line("/proc/sys/kernel/osrelease"),
            started: since_1970(SystemTime::now()).as_secs(),
        }
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment as RFC 3339 writes it, in UTC, to the millisecond: `2026-11-29T07:45:03.123Z`.
pub(crate) fn moment(time: SystemTime) -> String {
    let since = since_1970(time);
    let text = human::date(since.as_secs());
    format!("{}T{}.{:03}Z", &text[..10], &text[11..19], since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::moment;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn moments() {
        assert_eq!(moment(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            moment(UNIX_EPOCH + Duration::from_millis(951_782_399_007)),
            "2000-02-28T23:59:59.007Z"
        );
        assert_eq!(moment(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
    }
}
