//! The segment's files, from the command line: over a socket, because a descriptor gets through
//! where a path does not (another pid namespace, a user namespace), and because memory files have
//! no path.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A command line that is stopped does not keep programs from starting for longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the kernel puts in front of two descriptors, and they.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    files: [RawFd; 2],
}

/// Whether somebody hands files out at `path` to this process.
///
/// # Context
/// Three system calls, by number: libc's functions may be probed.
pub(crate) fn answers(path: &CStr) -> bool {
    // SAFETY: no pointers.
    let socket = unsafe {
        libc::syscall(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)
    };
    if socket < 0 {
        // No descriptor is left: the executed program may have one.
        return matches!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE)
        );
    }
    // SAFETY: zeros are valid.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.to_bytes();
    let fits = bytes.len() < address.sun_path.len();
    address.sun_path.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte.cast_signed());
    let len = mem::size_of::<libc::sockaddr_un>();
    // SAFETY: an address that lives through the call, and its length.
    let connected =
        fits && unsafe { libc::syscall(libc::SYS_connect, socket, &raw const address, len) } == 0;
    // SAFETY: opened above.
    unsafe { libc::syscall(libc::SYS_close, socket) };
    connected
}

/// The files of the tables (which can only be read) and of the counters.
pub(crate) fn files(path: &[u8]) -> io::Result<[File; 2]> {
    let stream = UnixStream::connect(Path::new(OsStr::from_bytes(path)))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut byte = 0_u8;
    let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: zeros are valid.
    let mut control: Control = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = mem::size_of::<Control>();
    // SAFETY: the message points to places that live through the call.
    let received =
        unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let header = &control.header;
    let whole = header.cmsg_len == mem::offset_of!(Control, files) + mem::size_of::<[RawFd; 2]>();
    let rights = (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    if received == 0 || !rights || !whole {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: descriptors that the kernel made for us just now.
    Ok(control.files.map(|file| unsafe { OwnedFd::from_raw_fd(file) }.into()))
}
