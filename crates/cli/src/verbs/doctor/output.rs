//! Where recordings are written if nobody says where.
#![allow(unsafe_code)]

use super::found::Found::{self, Good, Less};
use crate::human;
use crate::target::Target;
use std::path::Path;

/// Recordings are rarely larger.
const ENOUGH: u64 = 16 << 20;

pub(super) fn output() -> Found {
    let here =
        std::env::current_dir().map_or_else(|_| ".".to_string(), |path| path.display().to_string());
    let fix = || Some("trapline record -o /a/directory/with/room/trapline.tlp ...".to_string());
    if let Err(error) = Target::of(Path::new("trapline.tlp")).check() {
        return Less(format!("nothing can be written to {here}: {error:#}"), fix());
    }
    match free_here() {
        Some(free) if free < ENOUGH => {
            Less(format!("only {} free in {here}", human::bytes(free)), fix())
        }
        _ => Good(format!("{here} can be written to")),
    }
}

/// Bytes that this user may still write to the file system of the working directory.
fn free_here() -> Option<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in a zero byte, and the kernel fills the structure that it is given.
    if unsafe { libc::statvfs(c".".as_ptr(), stat.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: filled by the call that succeeded.
    let stat = unsafe { stat.assume_init() };
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
