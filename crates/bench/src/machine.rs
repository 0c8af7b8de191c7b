//! What the numbers were taken on.

use serde::Serialize;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Machine, kernel and moment of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Host name, made safe for a file name.
    pub name: String,
    /// The processor's own name.
    pub cpu: String,
    /// CPUs this process may use.
    pub cpus: usize,
    /// Kernel release.
    pub kernel: String,
    /// Whether a hypervisor is underneath.
    pub virtual_machine: bool,
    /// UTC, `YYYY-MM-DD HH:MM`.
    pub date: String,
    /// Load average of the last minute when the run began: above 0 means that others used the CPUs
    /// too.
    pub load: f64,
    /// Whether restartable sequences work in this process.
    pub rseq: bool,
    /// How asymmetric fences are made.
    pub fence: String,
}

impl Machine {
    /// Looks at the machine now.
    pub fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |key: &str| {
            cpuinfo
                .lines()
                .find(|l| l.starts_with(key))
                .and_then(|l| l.split_once(':'))
                .map(|(_, v)| v.trim().to_owned())
        };
        Self {
            name: read("/proc/sys/kernel/hostname")
                .trim()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .collect(),
            cpu: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: crate::affinity::allowed().len(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            virtual_machine: field("flags")
                .is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor")),
            date: utc_now(),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|s| s.parse().ok())
                .unwrap_or(0.0),
            rseq: percpu::rseq::available(),
            fence: format!("{:?}", percpu::fence::mode()).to_lowercase(),
        }
    }

    /// The day alone, `YYYY-MM-DD`.
    pub fn day(&self) -> &str {
        self.date.split(' ').next().unwrap_or(&self.date)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn utc_now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (year, month, day) = civil_from_days(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60)
}

/// The proleptic Gregorian date `days` after 1970-01-01 (Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::civil_from_days;

    #[test]
    fn dates_come_out_right() {
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(civil_from_days(11_016), (2000, 2, 29));
        assert_eq!(civil_from_days(20_777), (2026, 11, 20));
    }
}
