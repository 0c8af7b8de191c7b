//! Whether this user could use the kernel's own uprobes: asked of `perf_event_open`, as perf and
//! bpftrace use them.
#![allow(unsafe_code)]

use super::found::Found::{self, Good};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;

/// The kernel's number for events of this kind.
const TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";

/// The first 72 bytes of `perf_event_attr` (linux/perf_event.h), `PERF_ATTR_SIZE_VER1`: what a
/// uprobe needs.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    uprobe_path: u64,
    probe_offset: u64,
}

const _: () = assert!(size_of::<Attributes>() == 72, "PERF_ATTR_SIZE_VER1");

/// The first flag: the event counts nothing, and no probe is set.
const DISABLED: u64 = 1;

pub(super) fn kernel_uprobes() -> Found {
    Good(match opened() {
        Ok(()) => "available to this user, for comparison".to_string(),
        Err(error) => {
            let paranoid =
                fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
            let paranoid = if paranoid.is_empty() {
                String::new()
            } else {
                format!(", perf_event_paranoid {}", paranoid.trim())
            };
            format!("not available to this user ({error}{paranoid}); trapline does not need them")
        }
    })
}

/// Makes an event for a probe at the start of this executable, and takes it away again.
fn opened() -> io::Result<()> {
    let kind = fs::read_to_string(TYPE)?.trim().parse().map_err(io::Error::other)?;
    let path = CString::new(fs::read_link("/proc/self/exe")?.as_os_str().as_bytes())?;
    let attributes = Attributes {
        kind,
        size: size_of::<Attributes>() as u32,
        flags: DISABLED,
        uprobe_path: path.as_ptr().addr() as u64,
        ..Attributes::default()
    };
    // SAFETY: the structure has the size that it says, and the path in it outlives the call; the
    // process is this one, on any CPU.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, 0, -1, -1, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened, and nobody else has it.
    drop(unsafe { File::from_raw_fd(fd as i32) });
    Ok(())
}
