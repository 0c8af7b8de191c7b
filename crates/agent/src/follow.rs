//! Programs that are executed without the agent: the report names them.
#![allow(unsafe_code)]

use crate::{log, segment};
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Nothing that a process can reach any more is opened by what it executes.
pub(crate) const OUT_OF_REACH: &str = "the run cannot be reached from there: \
    another user, root directory or mount namespace";
const STATIC: &str = "statically linked";
const OTHER_MACHINE: &str = "not an x86-64 program";
const OTHER_LIBRARY: &str = "it runs with another C library";
const RIGHTS: &str = "it gets the rights of another user or group";

const PT_INTERP: u32 = 3;
const X86_64: u16 = 62;
/// Bytes of a program's header, and of one in its table.
const HEADER: usize = 64;
const ENTRY: usize = 56;
/// Headers in the table that are looked at, and bytes of the loader's path.
const MOST_ENTRIES: u16 = 64;
const MOST_PATH: usize = 256;

/// Says once that `program` runs without the agent.
///
/// # Context
/// Allocates; no system calls.
pub(crate) fn missed(program: &CStr, why: &str) {
    let Some(segment) = segment::get() else { return };
    let name = program.to_string_lossy().replace('\n', "?");
    let line = format!("{}{name} ({why})", wire::NOT_FOLLOWED);
    // Whoever executes a program a thousand times does not fill the log with it. Two processes that
    // do so at once may both write: the reader takes them for one.
    let known = segment.log_text();
    if !known.split(|&b| b == b'\n').any(|old| old.ends_with(line.as_bytes())) {
        log::line(&line);
    }
}

/// Why the program in this file runs without the agent; none where it takes it along, where it
/// cannot be executed at all, and where its file does not tell.
///
/// # Context
/// System calls that the loader makes, too; does not block on what is no regular file.
pub(crate) fn obstacle(program: &CStr) -> Option<&'static str> {
    if !executable(program) {
        return None;
    }
    let how = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: as above.
    let fd = unsafe { libc::open(program.as_ptr(), how) };
    if fd < 0 {
        return None;
    }
    // SAFETY: just opened.
    let file = unsafe { File::from_raw_fd(fd) };
    // SAFETY: zeros are valid.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: a place for the answer.
    let known = unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) } == 0;
    let regular = known && stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    let mut header = [0; HEADER];
    if !regular || file.read_exact_at(&mut header, 0).is_err() || !header.starts_with(b"\x7fELF") {
        return None;
    }
    if header[4] != 2 || short(&header, 18) != X86_64 {
        return Some(OTHER_MACHINE);
    }
    if raises(&stat) {
        return Some(RIGHTS);
    }
    let name = |path: &[u8]| Path::new(OsStr::from_bytes(path)).file_name().map(OsStr::to_owned);
    match loader(&file, &header)? {
        // The loader is one itself, and loads what it is told to.
        None if name(program.to_bytes()).is_some_and(|n| n.as_bytes().starts_with(b"ld")) => None,
        None => Some(STATIC),
        Some(path) if name(&path).is_none_or(|n| n != "ld-linux-x86-64.so.2") => {
            Some(OTHER_LIBRARY)
        }
        Some(_) => None,
    }
}

/// Whether the program may be executed at all.
pub(crate) fn executable(program: &CStr) -> bool {
    // SAFETY: a terminated string.
    unsafe { libc::access(program.as_ptr(), libc::X_OK) == 0 }
}

/// The loader that the program names, if it names one. None: the file is damaged.
fn loader(file: &File, header: &[u8; HEADER]) -> Option<Option<Vec<u8>>> {
    let (table, size, count) = (long(header, 32), short(header, 54), short(header, 56));
    if usize::from(size) != ENTRY {
        return None;
    }
    for number in 0..count.min(MOST_ENTRIES) {
        let mut entry = [0; ENTRY];
        let at = table.checked_add(u64::from(number) * ENTRY as u64)?;
        file.read_exact_at(&mut entry, at).ok()?;
        if entry[..4] == PT_INTERP.to_le_bytes() {
            let len = usize::try_from(long(&entry, 32)).ok().filter(|len| *len <= MOST_PATH)?;
            let mut path = vec![0; len];
            file.read_exact_at(&mut path, long(&entry, 8)).ok()?;
            path.truncate(path.iter().position(|b| *b == 0).unwrap_or(len));
            return Some(Some(path));
        }
    }
    Some(None)
}

/// Whether who executes the file becomes somebody else by it, which makes the loader forget us.
fn raises(stat: &libc::stat) -> bool {
    // SAFETY: no arguments.
    let user = unsafe { libc::getuid() };
    // SAFETY: as above.
    let group = unsafe { libc::getgid() };
    let other_user = stat.st_mode & libc::S_ISUID != 0 && stat.st_uid != user;
    let is_setgid = stat.st_mode & libc::S_ISGID != 0 && stat.st_mode & libc::S_IXGRP != 0;
    let other_group = is_setgid && stat.st_gid != group;
    if !other_user && !other_group {
        return false;
    }
    // SAFETY: numbers only. A process that gives up new rights gets none.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 }
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::{OTHER_LIBRARY, OTHER_MACHINE, RIGHTS, STATIC, obstacle};
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn judged(path: &Path) -> Option<&'static str> {
        obstacle(&CString::new(path.as_os_str().as_bytes()).unwrap())
    }

    #[test]
    fn files_tell_who_runs_without_us() {
        let directory =
            std::env::temp_dir().join(format!("trapline-follow-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let own = fs::read("/bin/true").unwrap();
        let entries = (0..usize::from(own[56])).map(|n| 64 + n * 56);
        let interp = entries.into_iter().find(|at| own[*at..at + 4] == [3, 0, 0, 0]).unwrap();
        let path = directory.join("program");
        let with = |change: &dyn Fn(&mut Vec<u8>), mode| {
            let mut bytes = own.clone();
            change(&mut bytes);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            judged(&path)
        };
        let text = u64::from_le_bytes(own[interp + 8..interp + 16].try_into().unwrap()) as usize;
        assert_eq!(with(&|_| (), 0o755), None);
        assert_eq!(with(&|b| b[interp] = 0, 0o755), Some(STATIC));
        assert_eq!(with(&|b| b[4] = 1, 0o755), Some(OTHER_MACHINE));
        assert_eq!(with(&|b| b[18] = 183, 0o755), Some(OTHER_MACHINE));
        assert_eq!(with(&|b| b[text + 8..text + 11].fill(b'x'), 0o755), Some(OTHER_LIBRARY));
        // Not executable, a script, damaged, a directory, not there: not ours to say.
        assert_eq!(with(&|b| b[interp] = 0, 0o644), None);
        assert_eq!(with(&|b| b[..9].copy_from_slice(b"#!/bin/sh"), 0o755), None);
        assert_eq!(with(&|b| b[32..40].fill(0xff), 0o755), None);
        assert_eq!(with(&|b| b.truncate(40), 0o755), None);
        assert_eq!((judged(&directory), judged(&directory.join("nowhere"))), (None, None));
        // Its own user's rights are no others.
        assert_eq!(with(&|_| (), 0o4755), None);
        // SAFETY: a terminated string and numbers.
        let given = unsafe {
            libc::chown(CString::new(path.as_os_str().as_bytes()).unwrap().as_ptr(), 1, 1)
        };
        if given == 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
            assert_eq!(judged(&path), Some(RIGHTS));
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
