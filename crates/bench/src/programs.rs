//! Other people's programs.

use std::path::PathBuf;

/// The file behind a program's name: Debian's redis-server, for one, is a symbolic link.
pub fn resolved(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file()).and_then(|file| file.canonicalize().ok())
}

/// Whether a program can be started.
pub fn installed(program: &str) -> bool {
    resolved(program).is_some()
}
