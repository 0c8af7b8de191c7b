//! Files as byte slices.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Longest file that is read, in bytes: symbols of the largest programs are a third of it.
const LONGEST: u64 = 8 << 30;
/// Bytes that tell what a file is.
const START: u64 = 64;
/// How often a file is read again that somebody was writing to.
const TRIES: usize = 3;

/// A file's bytes at one moment, and which file it was.
#[derive(Debug)]
pub(crate) struct Content {
    /// For as long as the process lives: names are borrowed from it everywhere, each file is read
    /// once, and the process is short. Read and not mapped: whoever truncates a file or writes to
    /// it changes a mapping under its reader, and may kill it.
    pub(crate) data: &'static [u8],
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// When its status last changed, in nanoseconds since 1970.
    pub(crate) changed: u64,
}

/// Reads an ELF file; of any other file its first bytes. Others may have a say in what `path` leads
/// to: a pipe or a device is not waited for, nor read, nor opened: that alone changes some of them.
///
/// # Errors
/// Whatever the system says, and files that are none, too long, or never left alone.
pub(crate) fn read(path: &Path) -> std::io::Result<Content> {
    for _ in 0..TRIES {
        if let Some(content) = read_once(&mut open(path)?)? {
            return Ok(content);
        }
    }
    Err(Error::other("somebody is writing to it"))
}

/// Opens a regular file, and nothing else: it is looked at first through a descriptor that only
/// names it.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let named = OpenOptions::new().read(true).custom_flags(flags | libc::O_PATH).open(path)?;
    if !named.metadata()?.is_file() {
        return Err(Error::other("not a regular file"));
    }
    let again = format!("/proc/self/fd/{}", named.as_raw_fd());
    let mut options = OpenOptions::new();
    match options.read(true).custom_flags(flags).open(again) {
        // No /proc here.
        Err(error) if error.kind() == ErrorKind::NotFound => options.open(path),
        opened => opened,
    }
}

/// `None`: it was changed meanwhile.
fn read_once(file: &mut File) -> std::io::Result<Option<Content>> {
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(Error::other("not a regular file"));
    }
    if before.len() > LONGEST {
        return Err(Error::other(format!("longer than {LONGEST} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(START).read_to_end(&mut bytes)?;
    let length = if bytes.starts_with(b"\x7fELF") { before.len() } else { bytes.len() as u64 };
    bytes.try_reserve_exact(length as usize - bytes.len().min(length as usize))?;
    file.take(length.saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes)?;
    let after = file.metadata()?;
    let state = |m: &std::fs::Metadata| (m.len(), m.ctime(), m.ctime_nsec());
    if state(&before) != state(&after) || bytes.len() as u64 != length {
        return Ok(None);
    }
    let changed = before.ctime().wrapping_mul(1_000_000_000) + before.ctime_nsec();
    Ok(Some(Content {
        data: bytes.leak(),
        device: before.dev(),
        inode: before.ino(),
        changed: changed.cast_unsigned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::read;
    use std::fs;
    use std::io::Read;
    use std::os::fd::FromRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    /// Sees that a file is opened.
    struct Watch(fs::File);

    #[allow(unsafe_code)]
    impl Watch {
        fn on(path: &Path) -> Self {
            // SAFETY: takes no pointers.
            let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
            // SAFETY: just opened.
            let watch = Self(unsafe { fs::File::from_raw_fd(fd) });
            let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
            // SAFETY: a string that lives through the call.
            assert!(unsafe { libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_OPEN) } >= 0);
            watch
        }

        /// Whether it was, since the last time.
        fn saw_it_opened(&self) -> bool {
            (&self.0).read(&mut [0; 256]).is_ok_and(|bytes| bytes > 0)
        }
    }

    #[test]
    fn a_file_is_what_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, b"\x7fELF before").unwrap();
        let content = read(&path).unwrap();
        fs::write(&path, b"").unwrap();
        assert_eq!(content.data, b"\x7fELF before");
        assert_ne!(read(&path).unwrap().changed, content.changed);
        assert_eq!(read(&path).unwrap().data, b"");
        assert_eq!(read(&path).unwrap().inode, content.inode);
    }

    #[test]
    fn what_is_no_file_is_neither_read_nor_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let watch = Watch::on(&pipe);
        for path in [pipe.as_path(), directory.path(), "/dev/zero".as_ref(), "/dev/tty".as_ref()] {
            assert!(read(path).is_err(), "{}", path.display());
        }
        assert!(!watch.saw_it_opened());
        drop(fs::File::options().read(true).write(true).open(&pipe));
        assert!(watch.saw_it_opened());
        let long = directory.path().join("long");
        fs::File::create(&long).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&long).is_err(), "a hole of a terabyte");
        fs::write(&long, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(read(&long).unwrap().data, [b'x'; 64], "nothing for us");
    }
}
