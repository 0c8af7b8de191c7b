//! How many CPU numbers can occur, from `/sys/devices/system/cpu/possible`.
#![allow(unsafe_code)]

use sys::file::{self, AT_FDCWD, O_CLOEXEC, O_RDONLY};
use sys::{Errno, thread};

/// One more than the highest possible CPU number; at least 1.
pub(crate) fn read() -> usize {
    let mut text = [0u8; 256];
    let listed = read_file(&mut text).ok().and_then(|n| parse(&text[..n]));
    // Without /sys: as many as the kernel has bits for, which may be more than it has CPUs.
    listed.or_else(|| thread::affinity(&mut [0; 1024]).ok().map(|bytes| bytes * 8)).unwrap_or(1)
}

fn read_file(buf: &mut [u8]) -> Result<usize, Errno> {
    let path = c"/sys/devices/system/cpu/possible";
    let fd = file::openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0)?;
    let read = file::read(fd, buf);
    // SAFETY: this function opened `fd`.
    let _ = unsafe { file::close(fd) };
    read
}

/// The list format of the kernel, such as `0-3,8-11`: the last number plus one.
fn parse(text: &[u8]) -> Option<usize> {
    let text = core::str::from_utf8(text).ok()?.trim();
    let last = text.rsplit([',', '-']).next()?;
    last.parse::<usize>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn kernel_cpu_lists() {
        assert_eq!(parse(b"0\n"), Some(1));
        assert_eq!(parse(b"0-1\n"), Some(2));
        assert_eq!(parse(b"0-3,8-11\n"), Some(12));
        assert_eq!(parse(b"0,127\n"), Some(128));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"garbage\n"), None);
    }
}
