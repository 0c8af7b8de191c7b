//! Hands the segment's files to agents: over a socket, whose name is all that they are told.
//!
//! A descriptor gets where a path does not: into user and process namespaces, and to files that
//! have no path. The tables go as a descriptor that can only be read.
#![allow(unsafe_code)]

use super::leftovers;
use crate::sys;
use anyhow::Context;
use std::fs::{File, Permissions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempPath;

/// The socket.
#[derive(Debug)]
pub(super) struct Handout {
    listener: UnixListener,
}

impl Handout {
    /// Makes the socket, in `/dev/shm` or else in the directory for temporary files.
    pub(super) fn new() -> anyhow::Result<(Self, TempPath)> {
        let mut last = None;
        for directory in [PathBuf::from("/dev/shm"), std::env::temp_dir(), PathBuf::from("/tmp")] {
            leftovers::sweep(&directory);
            match bind(&directory) {
                Ok((listener, path)) => return Ok((Self { listener }, path)),
                Err(error) => last = Some(error),
            }
        }
        let error = last.unwrap_or_else(|| io::ErrorKind::NotFound.into());
        Err(error).context("no place for a socket in /dev/shm or /tmp; `trapline doctor` says more")
    }

    /// Gives the files to whoever asks and is this user or root, as long as the process lives;
    /// `times` counts how often.
    pub(super) fn serve(&self, tables: &File, counters: &File, times: &AtomicU64) -> ! {
        loop {
            // A peer that has gone again, or no descriptor left for it: the next one.
            if let Ok((stream, _)) = self.listener.accept()
                && may_have(&stream)
                && send(&stream, [tables.as_raw_fd(), counters.as_raw_fd()]).is_ok()
            {
                // Relaxed: no more than a number.
                times.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn bind(directory: &Path) -> io::Result<(UnixListener, TempPath)> {
    let mut named = tempfile::Builder::new();
    named.prefix(leftovers::PREFIX).suffix(leftovers::SOCKET);
    let (listener, path) = named.make_in(directory, |path| UnixListener::bind(path))?.into_parts();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok((listener, path))
}

fn may_have(stream: &UnixStream) -> bool {
    // SAFETY: zeros are valid.
    let mut peer: libc::ucred = unsafe { mem::zeroed() };
    let mut len = mem::size_of::<libc::ucred>() as libc::socklen_t;
    let place = (&raw mut peer).cast();
    // SAFETY: places for the answer and its length, which live through the call.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            place,
            &raw mut len,
        )
    } != 0;
    !failed && (peer.uid == 0 || peer.uid == sys::Ids::current().user)
}

/// What the kernel takes two descriptors from.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    files: [RawFd; 2],
}

fn send(stream: &UnixStream, files: [RawFd; 2]) -> io::Result<()> {
    let mut byte = 1_u8;
    let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let header = libc::cmsghdr {
        cmsg_len: mem::offset_of!(Control, files) + mem::size_of_val(&files),
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    let mut control = Control { header, files };
    // SAFETY: zeros are valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = mem::size_of::<Control>();
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the message points to places that live through the call.
    let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
