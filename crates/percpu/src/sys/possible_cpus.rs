//! How many CPU numbers can occur, from `/sys/devices/system/cpu/possible`.
#![allow(unsafe_code)]

/// One more than the highest possible CPU number; at least 1.
pub(crate) fn read() -> usize {
    let mut text = [0u8; 256];
    let from_sys = match read_file(&mut text) {
        Some(n) => parse(&text[..n]),
        None => None,
    };
    from_sys.unwrap_or_else(|| {
        // SAFETY: sysconf takes a number and touches no memory of the caller.
        let n = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
        usize::try_from(n).unwrap_or(1).max(1)
    })
}

fn read_file(buf: &mut [u8]) -> Option<usize> {
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::open(c"/sys/devices/system/cpu/possible".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: `buf` is writable for its length.
    let n = unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) };
    // SAFETY: this function opened `fd`.
    unsafe { libc::close(fd) };
    usize::try_from(n).ok()
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
