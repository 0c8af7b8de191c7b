//! Memory that this process and the other have in common.
//!
//! A file of ours is sent to the process over a pair of sockets that is made there and of which
//! this process takes one end (`pidfd_getfd`). So it needs no name that both can see, whatever
//! namespaces the two are in.

use crate::error::Error;
use crate::remote::Remote;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// What one descriptor takes in the control data of a message: `struct cmsghdr` and the number,
/// aligned.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Control {
    length: u64,
    level: i32,
    kind: i32,
    descriptor: i32,
    pad: i32,
}

impl Control {
    /// Of the header and the number, without what aligns.
    const LENGTH: u64 = 20;
}

/// `struct msghdr`, with its parts behind it, as it has to be at `at`.
fn message(at: u64) -> [u64; 14] {
    /// Bytes of the header; behind it come the control data, the vector, and the byte.
    const HEADER: u64 = 56;
    let (control, vector) = (at + HEADER, at + HEADER + size_of::<Control>() as u64);
    let byte = vector + 16;
    let header = [0, 0, vector, 1, control, size_of::<Control>() as u64, 0];
    let mut words = [0; 14];
    words[..7].copy_from_slice(&header);
    words[10..12].copy_from_slice(&[byte, 1]);
    words
}

impl Remote<'_, '_> {
    /// Maps `length` bytes of a file of this process's in the other one, shared, and readable or
    /// also writable: the address there. The process keeps no descriptor of it.
    ///
    /// # Errors
    /// [`Error::Remote`] if the process may not (no sockets, no memory); [`Error::Own`] before
    /// Linux 5.6, and before 6.9 if its first thread has ended; [`Error::Gone`].
    ///
    /// # Context
    /// Five remote calls. As with [`Remote::map`], the process has descriptors more meanwhile.
    pub fn map_shared(&mut self, file: &File, length: u64, writable: bool) -> Result<u64, Error> {
        let descriptor = self.send(file)?;
        let rights = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let flags = libc::MAP_SHARED as u64;
        let mapped = self.call(libc::SYS_mmap, [0, length, rights as u64, flags, descriptor, 0])?;
        self.close(descriptor)?;
        mapped.map_err(Error::remote("mmap"))
    }

    /// Takes away what [`Remote::map_shared`] gave.
    ///
    /// # Errors
    /// As there.
    pub fn unmap_shared(&mut self, address: u64, length: u64) -> Result<(), Error> {
        let done = self.call(libc::SYS_munmap, [address, length, 0, 0, 0, 0])?;
        done.map(drop).map_err(Error::remote("munmap"))
    }

    /// Gives the process a descriptor of a file, which programs that it executes do not inherit:
    /// its number there. To be taken away with [`Remote::close`].
    ///
    /// # Errors
    /// As [`Remote::map_shared`].
    ///
    /// # Context
    /// Four remote calls. The process's other threads can see the descriptor.
    pub fn send(&mut self, file: &File) -> Result<u64, Error> {
        let pair = self.scratch(&[0; 8])?;
        let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u64;
        let made = self.call(libc::SYS_socketpair, [libc::AF_UNIX as u64, kind, 0, pair, 0, 0])?;
        made.map_err(Error::remote("socketpair"))?;
        let mut ends = [0; 8];
        self.stopped.read(pair, &mut ends)?;
        let ends = u64::from_ne_bytes(ends);
        let [near, far] = [ends & 0xffff_ffff, ends >> 32];
        let received = self.pass(file, near, far);
        self.close(near)?;
        self.close(far)?;
        received
    }

    /// Sends the descriptor from the end `near`, of which we take a copy, to the end `far`.
    fn pass(&mut self, file: &File, near: u64, far: u64) -> Result<u64, Error> {
        let own = take(self.stopped.tracer.pid(), self.tid(), near);
        let own = own.map_err(Error::own("taking a descriptor of the process's"))?;
        send_descriptor(&own, file).map_err(Error::own("sending a descriptor"))?;
        let message = self.scratch_at(message)?;
        let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as u64;
        let received = self.call(libc::SYS_recvmsg, [far, message, flags, 0, 0, 0])?;
        received.map_err(Error::remote("recvmsg"))?;
        // The number, in the control data behind the header.
        let word = self.stopped.memory().word(message + 72).map_err(|_| Error::Gone)?;
        Ok(word & 0xffff_ffff)
    }

    /// Closes a descriptor of the process's.
    ///
    /// # Errors
    /// [`Error::Remote`]; [`Error::Gone`].
    pub fn close(&mut self, descriptor: u64) -> Result<(), Error> {
        let closed = self.call(libc::SYS_close, [descriptor, 0, 0, 0, 0, 0])?;
        closed.map(drop).map_err(Error::remote("close"))
    }
}

/// A copy of a descriptor that another process has, through the process or, where its first thread
/// has ended (Linux 6.9), through `thread`.
#[allow(unsafe_code, reason = "two system calls that the standard library does not have")]
fn take(pid: i32, thread: i32, descriptor: u64) -> io::Result<OwnedFd> {
    /// `PIDFD_THREAD`.
    const THREAD: i32 = libc::O_EXCL;
    let opened = |number: libc::c_long| {
        let number = i32::try_from(number).ok().filter(|number| *number >= 0);
        let number = number.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: just opened, and nobody else's.
        Ok::<_, io::Error>(unsafe { OwnedFd::from_raw_fd(number) })
    };
    let through = |pid: i32, flags: i32| {
        // SAFETY: numbers only.
        let process = opened(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) })?;
        let process = process.as_raw_fd();
        // SAFETY: numbers only.
        opened(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, descriptor, 0) })
    };
    through(pid, 0).or_else(|why| if thread == pid { Err(why) } else { through(thread, THREAD) })
}

/// Sends a descriptor over a socket, with one byte.
#[allow(unsafe_code, reason = "a system call that the standard library does not have")]
fn send_descriptor(socket: &OwnedFd, file: &File) -> io::Result<()> {
    let sent: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(file);
    let mut control = Control {
        length: Control::LENGTH,
        level: libc::SOL_SOCKET,
        kind: libc::SCM_RIGHTS,
        descriptor: sent.as_raw_fd(),
        pad: 0,
    };
    let mut byte = 0_u8;
    let mut vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: consists of numbers and pointers, for which zero is none.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the message's parts live through the call.
    let done = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if done == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::{Control, message};

    #[test]
    fn the_parts_lie_behind_the_header() {
        let words = message(0x1000);
        assert_eq!(words[2..6], [0x1050, 1, 0x1038, 24], "vector, control data");
        assert_eq!(words[10..], [0x1060, 1, 0, 0], "the vector leads to the byte");
        assert_eq!(std::mem::offset_of!(Control, descriptor) + 56, 72);
    }
}
