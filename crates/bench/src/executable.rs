//! The `trapline` to measure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The executable that was given, else the workspace's own, built in the profile of this program.
///
/// # Errors
/// In words, for the notes of a report.
pub(crate) fn trapline(given: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(path) = given {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            Err(format!("{} is no file", path.display()))
        };
    }
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let dir = own.parent().ok_or("this program is in no directory")?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "-p", "trapline", "--manifest-path"]).arg(manifest);
    if dir.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    if let Some(target) = dir.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    let status = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    let path = dir.join("trapline");
    if status.success() && path.is_file() {
        Ok(path)
    } else {
        Err("cargo build -p trapline failed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::trapline;
    use std::path::Path;

    #[test]
    fn a_given_path_is_taken_if_it_is_a_file() {
        assert_eq!(trapline(Some(Path::new("/bin/sh"))), Ok("/bin/sh".into()));
        assert!(
            trapline(Some(Path::new("/nonexistent")))
                .is_err_and(|why| why.contains("/nonexistent"))
        );
    }
}
