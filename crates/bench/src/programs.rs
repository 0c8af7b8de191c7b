//! Other people's programs.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// The first executable of that name in PATH that is no script: `python3` is one where pyenv or the
/// like is installed, and starts many programs before the one that is meant.
pub fn binary(program: &str) -> Option<PathBuf> {
    let is_elf = |file: &PathBuf| {
        let mut magic = [0; 4];
        File::open(file).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
    };
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(is_elf)
}

/// The file behind a program's name: Debian's redis-server, for one, is a symbolic link.
pub fn resolved(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .and_then(|file| file.canonicalize().ok())
}

/// Whether a program can be started.
pub fn installed(program: &str) -> bool {
    resolved(program).is_some()
}

#[cfg(test)]
mod tests {
    use super::{binary, installed};

    #[test]
    fn programs_are_found() {
        assert!(installed("sh") && !installed("no such program"));
        assert!(binary("true").is_some_and(|file| file.ends_with("true")));
        assert_eq!(binary("no such program"), None);
    }
}
