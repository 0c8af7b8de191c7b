//! Limits that trapline was started with, and that a program that it starts will have, too: where
//! the agent cannot be loaded under them, or trapline not work, that is said before anything is
//! done.
#![allow(unsafe_code)]

use crate::human;

/// A limit, and what is needed under it.
struct Needed {
    kind: libc::__rlimit_resource_t,
    /// What it is called in a shell.
    option: &'static str,
    least: u64,
    words: fn(u64) -> String,
}

/// For the agent beside the program: its places for returns, most of which never become memory. For
/// trapline: its own files, and those of the program that it looks into, one at a time.
const NEEDED: [Needed; 3] = [
    Needed { kind: libc::RLIMIT_DATA, option: "-d", least: 48 << 20, words: human::bytes },
    Needed { kind: libc::RLIMIT_AS, option: "-v", least: 96 << 20, words: human::bytes },
    Needed { kind: libc::RLIMIT_NOFILE, option: "-n", least: 16, words: open_files },
];

fn open_files(count: u64) -> String {
    format!("{count} open files")
}

/// What is said of processes that run already.
pub(super) const NOT_TOUCHED: &str = "no process was touched";

/// # Errors
/// Names the limit, and says `what` was not done.
pub(super) fn check(what: &str) -> anyhow::Result<()> {
    for Needed { kind, option, least, words } in NEEDED {
        let mut limit =
            libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a place for the answer.
        unsafe { libc::getrlimit(kind, &raw mut limit) };
        anyhow::ensure!(
            limit.rlim_cur >= least,
            "{} are needed, and ulimit {option} allows {}: {what}",
            words(least),
            words(limit.rlim_cur)
        );
    }
    Ok(())
}
