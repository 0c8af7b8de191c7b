//! The embedded agent, put where the loader can map it.
//!
//! In a directory in /tmp that nobody else can write to or exchange, or, where there is none, in
//! a memory file that this process holds as long as the run lasts. Neither HOME nor any other
//! variable has a say: they are the user's who called sudo.

use super::ours_alone::{ours_alone, parents_ours_alone};
use crate::exit::{FAILED, Failure};
use crate::symbols::object::Object;
use crate::symbols::versions::{Missing, missing};
use crate::sys;
use anyhow::Context;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The shared object.
static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent.so"));

/// Refuses a program whose libraries lack something that the agent needs of them.
///
/// # Errors
/// They do: what, and what to do.
pub(crate) fn check_libraries(program: &Path, libraries: &[Object]) -> anyhow::Result<()> {
    let Some(missing) = missing(BYTES, libraries) else { return Ok(()) };
    let (shown, Missing { library, version }) = (program.display(), missing);
    Err(Failure::error(
        FAILED,
        format!(
            "{shown}: its {library} is too old: it has no {version}, which trapline's agent needs; \
             run it with glibc 2.35 or later (Debian 12, Ubuntu 22.04)"
        ),
    ))
}

/// Where it is looked for first.
pub(crate) const DIRECTORY: &str = "/tmp";

/// Where the agent lies.
#[derive(Debug)]
pub(crate) enum Place {
    /// A file that stays there for the next run.
    File(PathBuf),
    /// A memory file of this process, under the name that other processes have for it. Programs
    /// that are executed later open it, too: it is held until the run is over.
    Memory { path: PathBuf, _held: OwnedFd },
}

impl Place {
    /// What the loader is to open.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Memory { path, .. } => path,
        }
    }
}

/// Writes the agent to `/tmp/trapline-UID`, unless the same bytes are there already; or else to
/// memory. A file is named by its content: several versions do not get into each other's way, and
/// running programs keep theirs.
///
/// # Errors
/// Neither place serves: the reasons of both.
pub(crate) fn install() -> anyhow::Result<Place> {
    let user = sys::Ids::current().user;
    let directory = Path::new(DIRECTORY).join(format!("trapline-{user}"));
    // A directory that somebody else prepared, one from which nothing can be executed, a full
    // disk: memory.
    let in_directory = match install_in(&directory, user) {
        Ok(path) => return Ok(Place::File(path)),
        Err(error) => error,
    };
    in_memory().with_context(|| format!("{in_directory:#}, and memory does not serve either"))
}

fn install_in(directory: &Path, user: u32) -> anyhow::Result<PathBuf> {
    let parent = directory.parent().context("the root directory")?.canonicalize()?;
    // From here on only this user and root can change what the path leads to.
    parents_ours_alone(&parent, user)?;
    let directory = parent.join(directory.file_name().context("no name")?);
    match DirBuilder::new().mode(0o755).create(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let metadata = fs::symlink_metadata(&directory)?;
    anyhow::ensure!(
        metadata.is_dir() && ours_alone(&metadata, user),
        "{} is not ours alone",
        directory.display()
    );
    let path = directory.join(format!("agent-{}.so", env!("TRAPLINE_AGENT_HASH")));
    if !is_ours(&path, user) {
        let unfinished = directory.join(format!(".agent-{}.new", std::process::id()));
        let result = write(&unfinished).and_then(|()| fs::rename(&unfinished, &path));
        if result.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        result?;
    }
    let file = File::open(&path)?;
    anyhow::ensure!(
        sys::can_be_executed(file.as_fd()),
        "{} is mounted noexec",
        directory.display()
    );
    Ok(path)
}

/// Whether the file is there with the right content, and nobody else can have written or can
/// write it.
fn is_ours(path: &Path, user: u32) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return false;
    };
    metadata.is_file()
        && ours_alone(&metadata, user)
        && metadata.len() == BYTES.len() as u64
        && fs::read(path).is_ok_and(|found| found == BYTES)
}

fn write(path: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?;
    file.write_all(BYTES)
}

/// A memory file that nobody can change any more, and its name for other processes.
fn in_memory() -> anyhow::Result<Place> {
    let memory = sys::memory_file(c"trapline-agent", BYTES).context("no memory file")?;
    anyhow::ensure!(
        sys::can_be_executed(memory.as_fd()),
        "memory files cannot be executed (sysctl vm.memfd_noexec)"
    );
    // The process's number as /proc has it, which may be another namespace's.
    let own = fs::read_link("/proc/self").context("/proc is not mounted")?;
    let path = Path::new("/proc").join(own).join("fd").join(memory.as_raw_fd().to_string());
    let seen = fs::metadata(&path).with_context(|| path.display().to_string())?;
    let wanted = File::from(memory.try_clone()?).metadata()?;
    anyhow::ensure!(
        (seen.dev(), seen.ino()) == (wanted.dev(), wanted.ino()),
        "{} is another file",
        path.display()
    );
    Ok(Place::Memory { path, _held: memory })
}

#[cfg(test)]
mod tests {
    use super::{BYTES, Place, in_memory, install_in};
    use crate::sys::Ids;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_file_is_written_once_and_repaired() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("a");
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
        let user = Ids::current().user;
        let inside = directory.path().join("a");
        install_in(&inside, user).unwrap();
        assert!(install_in(&inside, user + 1).is_err(), "another user's");
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(install_in(&inside, user).is_err(), "everybody's");
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(install_in(&inside, user).is_err(), "in one where others exchange it");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        install_in(&inside, user).unwrap();
        // What is planted: a link to a good directory, and a link in place of the file.
        symlink(&inside, directory.path().join("b")).unwrap();
        assert!(install_in(&directory.path().join("b"), user).is_err(), "a link");
        let path = install_in(&inside, user).unwrap();
        let elsewhere = directory.path().join("theirs.so");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(fs::symlink_metadata(install_in(&inside, user).unwrap()).unwrap().is_file());
    }

    #[test]
    fn memory_is_read_by_others_and_changed_by_nobody() {
        let place = in_memory().unwrap();
        assert!(matches!(place, Place::Memory { .. }));
        assert_eq!(fs::read(place.path()).unwrap(), BYTES);
        assert!(fs::write(place.path(), b"theirs").is_err());
    }
}
