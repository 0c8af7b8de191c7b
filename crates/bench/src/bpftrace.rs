//! Peer: bpftrace, which puts the kernel's probes on a function of any process.

use crate::group::Group;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Counts entries of `function` in `file`.
pub(crate) fn count(file: &Path, function: &str) -> String {
    format!("uprobe:{}:{function} {{ @ = count(); }}", file.display())
}

/// Makes a histogram of the time from entry to return, with the start time by thread, as its manual
/// shows it.
pub(crate) fn histogram(file: &Path, function: &str) -> String {
    let at = format!("{}:{function}", file.display());
    format!(
        "uprobe:{at} {{ @start[tid] = nsecs; }} uretprobe:{at} /@start[tid]/ {{ @ns = hist(nsecs \
            - @start[tid]); delete(@start[tid]); }}"
    )
}

/// Counts entries of `function` in `file` by call stack.
pub(crate) fn stacks(file: &Path, function: &str) -> String {
    format!("uprobe:{}:{function} {{ @[ustack(16)] = count(); }}", file.display())
}

/// Starts bpftrace with its output in `log` and waits until the probes are there. SIGINT makes it
/// print and end.
pub(crate) fn attach(script: &str, log: &Path) -> io::Result<Group> {
    const ATTACHED: Duration = Duration::from_secs(20);
    let out = File::create(log)?;
    let mut command = Command::new("bpftrace");
    command.args(["-e", &format!("BEGIN {{ printf(\"attached\\n\"); }} {script}")]);
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let mut group = Group::spawn(&mut command)?;
    let end = Instant::now() + ATTACHED;
    loop {
        let text = std::fs::read_to_string(log)?;
        if text.lines().any(|line| line == "attached") {
            // BEGIN is a probe like the others, attached first: give them their time.
            std::thread::sleep(Duration::from_millis(500));
            return Ok(group);
        }
        if group.wait(Duration::from_millis(20)).is_some() || Instant::now() > end {
            return Err(io::Error::other(format!(
                "bpftrace does not attach: {}",
                text.lines().last().unwrap_or("no output")
            )));
        }
    }
}

/// Hits in the output: the sum of the histogram's buckets, of the counts by stack, or the count.
pub(crate) fn hits(output: &str) -> u64 {
    let count = |line: &str| {
        line.strip_prefix("@: ").or_else(|| line.strip_prefix("]: "))?.trim().parse().ok()
    };
    output.lines().filter_map(|line| bucket(line).or_else(|| count(line))).sum()
}

/// The count in a line of a histogram, `[1K, 2K)  599004 |@@@ |`.
fn bucket(line: &str) -> Option<u64> {
    let (_, rest) = line.strip_prefix('[')?.split_once([')', ']'])?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{bucket, hits};

    #[test]
    fn hits_are_read_from_the_output() {
        assert_eq!(bucket("[1K, 2K)          599004 |@@@@@@@@|"), Some(599_004));
        assert_eq!(bucket("[0]                    3 |@       |"), Some(3));
        assert_eq!(bucket("@ns: "), None);
        assert_eq!(
            hits(
                "Attaching 3 probes...\nattached\n\n@ns: \n[256, 512)   4 |@|\n[512, 1K)   6 |@@|\n"
            ),
            10
        );
        assert_eq!(hits("attached\n\n@: 12345\n"), 12_345);
        assert_eq!(
            hits("attached\n\n@[\n    zmalloc+0\n    main+7\n]: 40\n@[\n    zmalloc+0\n]: 2\n"),
            42
        );
    }
}
