//! The kernel's list of what is mapped where in a process (proc_pid_maps(5)).
//!
//! # Examples
//! ```
//! use core::ops::ControlFlow;
//! use sys::mappings::{Mapping, addresses, read};
//!
//! // Where this code lies.
//! let (own, mut found) = (addresses as *const () as u64, None);
//! read(&mut [0; 4096], |line| match Mapping::parse(line) {
//!     Some(mapping) if mapping.range.contains(&own) => {
//!         found = Some(mapping.executable);
//!         ControlFlow::Break(())
//!     }
//!     _ => ControlFlow::Continue(()),
//! })?;
//! assert_eq!(found, Some(true));
//! # Ok::<(), sys::Errno>(())
//! ```

use crate::Errno;
use crate::file::{self, AT_FDCWD, O_CLOEXEC, O_RDONLY};
use core::ffi::CStr;
use core::ops::{ControlFlow, Range};
use core::sync::atomic::{AtomicI32, Ordering};

/// A mapping: a line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping<'t> {
    /// Addresses.
    pub range: Range<u64>,
    /// Whether it can be read.
    pub readable: bool,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether its contents can be executed.
    pub executable: bool,
    /// Where in its file it begins.
    pub offset: u64,
    /// Device of its file, as `stat(2)` gives it, but for some file systems, which have two kinds
    /// of numbers; 0: it has no file.
    pub dev: u64,
    /// Inode of its file; 0: it has none.
    pub ino: u64,
    /// Path of its file, or another name in brackets, or nothing. As the kernel writes it: with
    /// ` (deleted)` behind it where the file has no name any more, and `\012` for the end of a
    /// line. Of a path that is longer than a page the end may be missing.
    pub path: &'t [u8],
}

impl<'t> Mapping<'t> {
    /// The mapping of a line, without the end of the line. `None`: that is no line of the list.
    ///
    /// # Context
    /// No system call.
    pub fn parse(line: &'t [u8]) -> Option<Self> {
        let (start, end) = addresses(line)?;
        let (_, rest) = word(line)?;
        let (flags, rest) = word(rest)?;
        let (offset, rest) = word(rest)?;
        let (device, rest) = word(rest)?;
        let (ino, path) = word(rest).unwrap_or((rest, &[]));
        let allows = |at: usize, what| flags.get(at) == Some(&what);
        let colon = device.iter().position(|b| *b == b':')?;
        let (major, minor) = (number(&device[..colon], 16)?, number(&device[colon + 1..], 16)?);
        Some(Self {
            range: start..end,
            readable: allows(0, b'r'),
            writable: allows(1, b'w'),
            executable: allows(2, b'x'),
            offset: number(offset, 16)?,
            dev: device_number(major, minor),
            ino: number(ino, 10)?,
            path,
        })
    }
}

impl Mapping<'_> {
    /// The same without its path.
    ///
    /// # Context
    /// No system call.
    pub fn without_path(self) -> Mapping<'static> {
        let Self { range, readable, writable, executable, offset, dev, ino, path: _ } = self;
        Mapping { range, readable, writable, executable, offset, dev, ino, path: &[] }
    }
}

/// A device's number as `stat(2)` has it (`gnu_dev_makedev(3)`).
fn device_number(major: u64, minor: u64) -> u64 {
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12
}

/// The text up to the first space, and what is behind that and those that follow.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|b| *b == b' ')?;
    Some((&text[..end], text[end..].trim_ascii_start()))
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let add = |n: u64, digit: &u8| {
        let digit = char::from(*digit).to_digit(radix)?;
        n.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    };
    (!digits.is_empty()).then(|| digits.iter().try_fold(0, add)).flatten()
}

/// The addresses that a line begins with.
///
/// # Context
/// No system call.
pub fn addresses(line: &[u8]) -> Option<(u64, u64)> {
    let dash = line.iter().position(|b| *b == b'-')?;
    let space = line.iter().position(|b| *b == b' ')?;
    Some((number(line.get(..dash)?, 16)?, number(line.get(dash + 1..space)?, 16)?))
}

/// What was lent; negative: nothing.
static LENT: AtomicI32 = AtomicI32::new(-1);

/// Has [`read`] use this descriptor of the list, in a process that may see no `/proc`, until it is
/// told to use another, or none (-1). Whoever opened it may be another process.
///
/// # Context
/// No system call.
pub fn lend(descriptor: i32) {
    LENT.store(descriptor, Ordering::Relaxed);
}

/// Shows the list of the calling process to `see`, line by line, until that says that it has seen
/// enough. `text` is room for lines; those that are longer than it lose their end.
///
/// # Errors
/// There is no such file here, or it cannot be read.
///
/// # Context
/// Some system calls: one for each page of the list. No allocation. Between two of them other
/// threads may map and unmap.
pub fn read(text: &mut [u8], mut see: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), Errno> {
    read_lent_or_own(text, &mut see)
}

/// Whoever is shown a line.
type See<'s> = &'s mut dyn FnMut(&[u8]) -> ControlFlow<()>;
/// Where bytes come from.
type More<'m> = &'m mut dyn FnMut(&mut [u8]) -> Result<usize, Errno>;

/// [`read`], of which there is one however many use it: in an image bytes of code are few.
fn read_lent_or_own(text: &mut [u8], see: See<'_>) -> Result<(), Errno> {
    // Relaxed: a number, which is right as long as it is lent.
    let lent = LENT.load(Ordering::Relaxed);
    if lent >= 0 {
        let mut at = 0;
        let mut more =
            |room: &mut [u8]| file::pread(lent, room, at).inspect(|bytes| at += *bytes as u64);
        return show(text, &mut more, see);
    }
    match read_of(c"/proc/self/maps", text, see) {
        // The first thread of the process has ended: the others still have lists (Linux 3.17).
        Ok(0) => read_of(c"/proc/thread-self/maps", text, see).map(drop),
        all => all.map(drop),
    }
}

/// [`read`] of one of these files: how many bytes it gave.
fn read_of(path: &CStr, text: &mut [u8], see: See<'_>) -> Result<usize, Errno> {
    let fd = file::openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0)?;
    let mut bytes = 0;
    let mut more = |room: &mut [u8]| file::read(fd, room).inspect(|more| bytes += more);
    let all = show(text, &mut more, see);
    #[allow(unsafe_code)]
    // SAFETY: opened above.
    let _ = unsafe { file::close(fd) };
    all.map(|()| bytes)
}

/// Shows the lines of what `more` gives, which puts bytes of the text into the room that it gets;
/// 0 bytes are its end. `text` is as for [`read`].
///
/// # Errors
/// That of `more`.
///
/// # Context
/// No system call.
pub fn lines(
    text: &mut [u8],
    mut more: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
    mut see: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<(), Errno> {
    show(text, &mut more, &mut see)
}

fn show(text: &mut [u8], more: More<'_>, see: See<'_>) -> Result<(), Errno> {
    let mut filled = 0;
    // The rest of a line that was shown already.
    let mut skips = false;
    loop {
        filled += match more(&mut text[filled..])? {
            0 => return Ok(()),
            more => more,
        };
        let mut start = 0;
        while let Some(len) = text[start..filled].iter().position(|b| *b == b'\n') {
            if !core::mem::take(&mut skips) && see(&text[start..start + len]).is_break() {
                return Ok(());
            }
            start += len + 1;
        }
        text.copy_within(start..filled, 0);
        filled -= start;
        if filled == text.len() {
            if !skips && see(text).is_break() {
                return Ok(());
            }
            (skips, filled) = (true, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{Mapping, lines};
    use core::ops::ControlFlow;
    use std::vec::Vec;

    fn plain(path: &[u8]) -> Mapping<'_> {
        let (range, offset, dev, ino) = (0x1000..0x2000, 0x3000, 0xfe01, 77);
        Mapping { range, readable: true, writable: false, executable: true, offset, dev, ino, path }
    }

    #[test]
    fn lines_say_what_is_mapped() {
        let parse = |line: &'static str| Mapping::parse(line.as_bytes());
        let line = "1000-2000 r-xp 00003000 fe:01 77                  /a/b c.so";
        assert_eq!(parse(line), Some(plain(b"/a/b c.so")));
        let line = "1000-2000 r-xp 00003000 fe:01 77      /memfd:x\\012 (deleted)";
        assert_eq!(parse(line), Some(plain(b"/memfd:x\\012 (deleted)")));
        for line in ["1000-2000 r-xp 00003000 fe:01 77", "1000-2000 r-xp 00003000 fe:01 77 "] {
            assert_eq!(parse(line), Some(plain(b"")));
        }
        let stack = parse("7ffc0000-7ffc8000 rw-p 00000000 00:00 0         [stack]").unwrap();
        assert!(stack.readable && stack.writable && !stack.executable);
        assert_eq!((stack.dev, stack.ino, stack.path), (0, 0, &b"[stack]"[..]));
        // Numbers of devices as large as they get.
        let large = parse("0-1 ---p 0 12345:6789a 1 /x").unwrap();
        assert_eq!(large.dev, libc::makedev(0x12345, 0x6789a));
        for bad in [
            "",
            "1000",
            "1000-2000",
            "1000-2000 r-xp",
            "1000-2000 r-xp 00003000 fe01 77 /a",
            "1000-2000 r-xp 00003000 fe:01 7x /a",
            "1000-2000 r-xp  fe:01 77 /a",
            "-2000 r-xp 00003000 fe:01 77 /a",
            "11112222333344445-2000 r-xp 00003000 fe:01 77 /a",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let list = b"one\ntwo is longer\n\nthis one does not fit into the room\nlast\n";
        for step in 1..list.len() {
            let mut at = 0;
            let mut seen = Vec::new();
            let more = |room: &mut [u8]| {
                let n = step.min(room.len()).min(list.len() - at);
                room[..n].copy_from_slice(&list[at..at + n]);
                at += n;
                Ok(n)
            };
            lines(&mut [0; 16], more, |line| {
                seen.push(line.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
            let expected: [&[u8]; 5] =
                [b"one", b"two is longer", b"", b"this one does no", b"last"];
            assert_eq!(seen, expected, "{step}");
        }
    }
}
