//! A program that a thread is about to execute, as its arguments say.

use super::c_library::Kind;
use crate::symbols::libraries::divides_up_addresses;
use crate::symbols::object::Object;
use crate::sys::{self, Ids};
use crate::text::visible;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Longest path that the kernel takes.
const MOST_PATH: usize = 4096;
/// What it does not get to see of the files of another is none of its business; a page is.
const PAGE: u64 = 4096;

/// The program.
#[derive(Debug)]
pub(super) struct Program {
    /// For people: as it was named, or its file's name where it was not.
    name: String,
    /// Where this process finds it.
    file: PathBuf,
}

impl Program {
    /// What the process `pid` would execute by the path at `address` in its memory, from a
    /// directory's descriptor on; without a path, by that descriptor.
    pub(super) fn of(pid: i32, directory: i32, address: u64) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let named = if address == 0 { Vec::new() } else { text(pid, address).unwrap_or_default() };
        let named = OsString::from_vec(named);
        let path = Path::new(&named);
        let from = match directory {
            libc::AT_FDCWD => process.join("cwd"),
            descriptor => process.join("fd").join(descriptor.to_string()),
        };
        let file = match path.strip_prefix("/") {
            Ok(inside) => process.join("root").join(inside),
            Err(_) if named.is_empty() => from,
            Err(_) => from.join(path),
        };
        let path = if named.is_empty() { fs::read_link(&file).ok() } else { None };
        let name = path.map_or(named, PathBuf::into_os_string);
        Self { name: visible(&name.to_string_lossy()).into_owned(), file }
    }

    /// For people.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The text at an address of a process.
fn text(pid: i32, address: u64) -> Option<Vec<u8>> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut text = Vec::new();
    while text.len() < MOST_PATH {
        let at = address.checked_add(text.len() as u64)?;
        // Up to the end of the page: there may be nothing behind it.
        let mut part = vec![0; (PAGE - at % PAGE) as usize];
        memory.read_exact_at(&mut part, at).ok()?;
        let end = part.iter().position(|byte| *byte == 0);
        text.extend_from_slice(&part[..end.unwrap_or(part.len())]);
        if end.is_some() {
            return Some(text);
        }
    }
    None
}

/// Why a program is not traced that is about to be executed: it would not get the rights that its
/// file gives it, unless whoever traces it may have all.
pub(super) fn obstacle(program: &Program, pid: i32) -> Option<&'static str> {
    if Ids::current().user == 0 {
        return None;
    }
    // What is not there, nobody executes.
    let file = fs::metadata(&program.file).ok()?;
    let user = fs::metadata(format!("/proc/{pid}")).map_or(u32::MAX, |process| process.uid());
    let other_user = file.mode() & libc::S_ISUID != 0 && file.uid() != user;
    let other_group = file.mode() & libc::S_ISGID != 0 && file.mode() & libc::S_IXGRP != 0;
    let raises = other_user || other_group || sys::has_capabilities(&program.file);
    raises.then_some("it gets the rights of another user or group")
}

/// What tells one file from another.
pub(super) fn identity(file: &Metadata) -> (u64, u64, u64) {
    let changed = file.ctime().wrapping_mul(1_000_000_000).wrapping_add(file.ctime_nsec());
    (file.dev(), file.ino(), changed.cast_unsigned())
}

/// What the program in a file is linked with, or why it is not to be entered before it runs.
///
/// # Errors
/// It cannot be read.
pub(super) fn kind(file: &Path) -> anyhow::Result<Result<Kind, &'static str>> {
    let Ok(object) = Object::open_elsewhere(file, file)? else {
        return Ok(Err("not an x86-64 program"));
    };
    if divides_up_addresses(&object) {
        return Ok(Err("a sanitizer's runtime is in it, which has to be the first"));
    }
    Ok(match Kind::of_program(&object.elf) {
        None => Err("its C library is neither glibc nor musl"),
        // Code would have to be written where it begins: if trapline were killed, it would stay.
        Some(kind) if kind.linked && kind.go => Err("its dynamic linker is not followed"),
        Some(kind) => Ok(kind),
    })
}

#[cfg(test)]
mod tests {
    use super::{Program, kind, text};
    use std::ffi::CString;
    use std::path::Path;

    #[test]
    fn what_is_executed_is_found_by_its_path_or_descriptor() {
        let own = std::process::id().cast_signed();
        let path = CString::new("/bin/true").unwrap();
        let address = path.as_ptr().expose_provenance() as u64;
        assert_eq!(text(own, address).as_deref(), Some(&b"/bin/true"[..]));
        assert_eq!(text(own, 8), None);
        let program = Program::of(own, libc::AT_FDCWD, address);
        assert_eq!(program.name(), "/bin/true");
        assert!(program.file.ends_with("root/bin/true") && program.file.exists());
        let relative = CString::new("Cargo.toml").unwrap();
        let address = relative.as_ptr().expose_provenance() as u64;
        let program = Program::of(own, libc::AT_FDCWD, address);
        assert!(program.file.ends_with("cwd/Cargo.toml") && program.file.exists());
        assert!(Program::of(own, libc::AT_FDCWD, 8).name().ends_with("cli"), "no text: as if none");
        assert!(kind(Path::new("/bin/true")).unwrap().is_ok_and(|kind| kind.linked));
        assert!(kind(Path::new("Cargo.toml")).unwrap().is_err());
    }
}
