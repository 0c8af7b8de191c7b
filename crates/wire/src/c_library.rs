//! The C library, whose functions run where others do not.

/// Why one of its functions is left alone that cannot take a jump.
pub const NEEDS_TRAP: &str =
    "it needs a breakpoint, which would kill where the C library has blocked all signals";

/// Why a function's counts may be too low: something else stands where its probe was.
pub const OVERWRITTEN: &str = "its probe was overwritten: later calls are not counted";

/// Functions of the C library and the loader that an agent probes for itself, wherever they are, so
/// that plans for them are wanted, too.
pub const WATCHED: [&str; 12] = [
    "execve",
    "execveat",
    "fexecve",
    "_exit",
    "prctl",
    "pthread_setname_np",
    "_dl_debug_state",
    "sigaction",
    "sigprocmask",
    "pthread_sigmask",
    "sigpending",
    "pthread_create",
];

/// Whether the file at this path is the C library or the dynamic loader. They block all signals by
/// system call for a while (`posix_spawn`, `pthread_create`, `abort`), and a breakpoint that is hit
/// then kills the process: their functions are probed by jumps or not at all.
pub fn is_c_library(path: &[u8]) -> bool {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    [
        &b"libc.so"[..],
        b"libc-2.",
        b"ld-linux",
        b"ld-2.",
        b"ld.so",
        b"libpthread",
        b"libc.musl",
        b"ld-musl",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::is_c_library;

    #[test]
    fn names() {
        for (path, expected) in [
            ("/lib/x86_64-linux-gnu/libc.so.6", true),
            ("/lib64/ld-linux-x86-64.so.2", true),
            ("libpthread.so.0", true),
            ("/usr/lib/libcrypto.so.3", false),
            ("/usr/bin/ld", false),
            ("", false),
        ] {
            assert_eq!(is_c_library(path.as_bytes()), expected, "{path}");
        }
    }
}
