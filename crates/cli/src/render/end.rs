//! How a program ended, in words.

/// Names of the signals from 1 on, as x86-64 numbers them.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// `killed by signal 11 (SIGSEGV)`.
pub(super) fn killed(signal: i32) -> String {
    let name = usize::try_from(signal - 1).ok().and_then(|at| NAMES.get(at));
    format!(
        "killed by signal {signal}{}",
        name.map_or(String::new(), |name| format!(" (SIG{name})"))
    )
}

#[cfg(test)]
mod tests {
    use super::killed;

    #[test]
    fn numbers_and_names() {
        assert_eq!(killed(libc::SIGSEGV), "killed by signal 11 (SIGSEGV)");
        assert_eq!(killed(libc::SIGSYS), "killed by signal 31 (SIGSYS)");
        assert_eq!(killed(libc::SIGHUP), "killed by signal 1 (SIGHUP)");
        assert_eq!(
            [0, 34, -1].map(killed),
            ["killed by signal 0", "killed by signal 34", "killed by signal -1"]
        );
    }
}
