//! The embedded agent, put where the loader can map it.

use crate::sys;
use anyhow::Context;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The shared object.
static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent.so"));

/// Where it is looked for first.
pub(crate) const DIRECTORY: &str = "/tmp";

/// Where the agent lies.
#[derive(Debug)]
pub(crate) enum Place {
    File(PathBuf),
    /// In a memory file of this process, which must live as long as the program.
    Memory(OwnedFd),
}

impl Place {
    /// What the loader is to open.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Memory(file) => PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())),
        }
    }
}

/// Writes the agent to `/tmp/trapline-UID`, or else to the user's cache, unless the same bytes are there already; or else to memory. Named by its content: several versions do not
/// get into each other's way, and running programs keep theirs.
pub(crate) fn install() -> anyhow::Result<Place> {
    let user = sys::Ids::current().user;
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let mut directories = vec![Path::new(DIRECTORY).join(format!("trapline-{user}"))];
    directories.extend(cache.filter(|path| path.is_absolute()).map(|path| path.join("trapline")));
    for directory in directories {
        // A directory that somebody else prepared, one from which nothing can be executed, a full disk: the next one.
        if let Ok(path) = install_in(&directory, user) {
            return Ok(Place::File(path));
        }
    }
    let memory = sys::memory_file(BYTES).context("no directory for the agent, and no memory file either")?;
    Ok(Place::Memory(memory))
}

fn install_in(directory: &Path, user: u32) -> anyhow::Result<PathBuf> {
    DirBuilder::new().mode(0o755).recursive(true).create(directory)?;
    let metadata = fs::symlink_metadata(directory)?;
    anyhow::ensure!(
        metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o022 == 0,
        "{} is not ours alone",
        directory.display()
    );
    anyhow::ensure!(!sys::no_execution(directory), "{} is mounted noexec", directory.display());
    let path = directory.join(format!("agent-{}.so", env!("TRAPLINE_AGENT_HASH")));
    if is_ours(&path, user) {
        return Ok(path);
    }
    let unfinished = directory.join(format!(".agent-{}.new", std::process::id()));
    let result = write(&unfinished).and_then(|()| fs::rename(&unfinished, &path));
    if result.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    result?;
    Ok(path)
}

/// Whether the file is there with the right content, and nobody else can have written or can write it.
fn is_ours(path: &Path, user: u32) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return false;
    };
    metadata.is_file()
        && metadata.uid() == user
        && metadata.mode() & 0o022 == 0
        && metadata.len() == BYTES.len() as u64
        && fs::read(path).is_ok_and(|found| found == BYTES)
}

fn write(path: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?;
    file.write_all(BYTES)
}

#[cfg(test)]
mod tests {
    use super::{BYTES, install_in};
    use crate::sys::Ids;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_written_once_and_repaired() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("a/b");
        let user = Ids::current().user;
        let path = install_in(&inside, user).unwrap();
        assert_eq!(fs::read(&path).unwrap(), BYTES);
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(install_in(&inside, user).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        fs::write(&path, b"something else").unwrap();
        install_in(&inside, user).unwrap();
        assert_eq!(fs::read(&path).unwrap(), BYTES);
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(install_in(directory.path(), Ids::current().user).is_err());
        assert!(install_in(directory.path(), Ids::current().user + 1).is_err());
    }
}
