//! Where a report or a recording is written.

use crate::exit::{Failure, USAGE};
use crate::out::Out;
use anyhow::Context;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A stream or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    Stderr,
    File(PathBuf),
}

impl Target {
    /// What `-o` names: `-` is standard output.
    pub(crate) fn of(path: &Path) -> Self {
        match path.to_str() {
            Some("-" | "/dev/stdout") => Self::Stdout,
            Some("/dev/stderr") => Self::Stderr,
            _ => Self::File(path.to_path_buf()),
        }
    }

    /// Whether it can be written, as far as that is known before there is something to write.
    ///
    /// # Errors
    /// It cannot; nothing was changed.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let path = match self {
            Self::Stdout => return Out::stdout()?.finish(),
            Self::Stderr => return Out::stderr()?.finish(),
            Self::File(path) => path,
        };
        if path.is_dir() {
            return Err(Failure::error(
                USAGE,
                format!("{}: a directory; say a file", path.display()),
            ));
        }
        let refuse = |error: io::Error| {
            Failure::error(USAGE, format!("cannot write {}: {error}", path.display()))
        };
        match kind(path) {
            Kind::Special => Ok(()),
            Kind::Plain(path) => match tempfile::tempfile_in(directory(&path)) {
                Err(_) if path.exists() => {
                    File::options().write(true).open(&path).map(drop).map_err(refuse)
                }
                other => other.map(drop).map_err(refuse),
            },
        }
    }

    /// Opens it to be written bit by bit. A file is emptied.
    pub(crate) fn open(&self) -> anyhow::Result<Out> {
        match self {
            Self::Stdout => Out::stdout(),
            Self::Stderr => Out::stderr(),
            Self::File(path) => {
                let name = path.display().to_string();
                Ok(Out::to(
                    File::create(path).with_context(|| format!("cannot write {name}"))?,
                    &name,
                ))
            }
        }
    }

    /// Writes all of it: a file is there whole, or is what it was before.
    pub(crate) fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::File(path) => {
                whole(path, bytes).with_context(|| format!("cannot write {}", path.display()))
            }
            stream => {
                let mut out = stream.open()?;
                out.bytes(bytes);
                out.finish()
            }
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

enum Kind {
    /// A device or a pipe: there is nothing to rename.
    Special,
    /// A file, or nothing yet; the path is that of the file itself where a symbolic link was named.
    Plain(PathBuf),
}

fn kind(path: &Path) -> Kind {
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => Kind::Special,
        Ok(_) => Kind::Plain(path.canonicalize().unwrap_or_else(|_| path.to_path_buf())),
        Err(_) => Kind::Plain(path.to_path_buf()),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Fills a file under another name, and gives it its own when everything is on disk.
fn whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = match kind(path) {
        Kind::Special => return File::options().write(true).open(path)?.write_all(bytes),
        Kind::Plain(path) => path,
    };
    // What any other program would give a new file; the umask takes its part away.
    let mode = path.metadata().map_or(0o666, |metadata| metadata.permissions().mode() & 0o7777);
    let beside = tempfile::Builder::new()
        .prefix(".trapline-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory(&path));
    match beside {
        Ok(mut file) => {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        }
        // A file of one's own in a directory of somebody else's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.exists() => {
            let mut file = File::options().write(true).truncate(true).open(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::Target;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    #[test]
    fn a_file_is_there_whole_and_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let target = Target::of(&path);
        target.check().unwrap();
        assert!(!path.exists());
        target.write(b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        target.check().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        target.write(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&path, "old").unwrap();
        symlink("a", &link).unwrap();
        Target::of(&link).write(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(link.is_symlink());
    }

    #[test]
    fn what_cannot_be_written() {
        assert_eq!(Target::of(Path::new("-")), Target::Stdout);
        for path in ["/nowhere/a", "/proc/nosuch", "/"] {
            assert!(Target::of(Path::new(path)).check().is_err(), "{path}");
            assert!(Target::of(Path::new(path)).write(b"a").is_err(), "{path}");
        }
        let full = Target::of(Path::new("/dev/full"));
        full.check().unwrap();
        let error = format!("{:#}", full.write(b"a").unwrap_err());
        assert!(error.starts_with("cannot write /dev/full: No space left"), "{error}");
    }
}
