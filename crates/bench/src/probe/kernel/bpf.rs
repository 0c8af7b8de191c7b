//! bpf(2): maps and programs without a library.
#![allow(unsafe_code)]

use super::insn::Insn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const PROG_LOAD: libc::c_int = 5;
/// `BPF_PROG_TYPE_KPROBE`: what runs at uprobes, too.
const TYPE_KPROBE: u32 = 2;

/// How a map keeps its values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// By key of eight bytes.
    Hash = 1,
    /// By index, a value for each CPU.
    PerCpuArray = 6,
}

/// A map of 64-bit values.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct CreateMap {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct Lookup {
    map: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct LoadProgram {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

impl Map {
    /// A map with all elements allocated in advance.
    pub(super) fn new(kind: Kind, entries: u32) -> io::Result<Self> {
        let key_size = if matches!(kind, Kind::Hash) { 8 } else { 4 };
        let attr = CreateMap {
            kind: kind as u32,
            key_size,
            value_size: 8,
            max_entries: entries,
            flags: 0,
        };
        Ok(Self { fd: new_fd(MAP_CREATE, &attr)?, entries })
    }

    /// The number by which programs name it.
    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The sum over all elements of a per-CPU array and over all CPUs.
    pub(super) fn sum(&self) -> io::Result<u64> {
        let mut total = 0_u64;
        let mut values = vec![0_u64; possible_cpus()?];
        for key in 0..self.entries {
            let attr = Lookup {
                map: self.fd() as u32,
                key: (&raw const key) as u64,
                value: values.as_mut_ptr() as u64,
                flags: 0,
            };
            bpf(MAP_LOOKUP, &attr)?;
            total = values.iter().fold(total, |sum, v| sum.wrapping_add(*v));
        }
        Ok(total)
    }
}

/// Loads a program for uprobes; an error carries what the verifier says.
pub(super) fn load(program: &[Insn]) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let mut attr = LoadProgram {
        kind: TYPE_KPROBE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    new_fd(PROG_LOAD, &attr).or_else(|error| {
        if error.raw_os_error() == Some(libc::EPERM) {
            return Err(error);
        }
        let mut log = vec![0_u8; 1 << 16];
        (attr.log_level, attr.log_size, attr.log) = (1, log.len() as u32, log.as_mut_ptr() as u64);
        new_fd(PROG_LOAD, &attr).map_err(|error| {
            let text = String::from_utf8_lossy(&log);
            let text = text.trim_end_matches('\0').trim_end();
            io::Error::new(error.kind(), format!("{error}: {text}"))
        })
    })
}

fn new_fd<T>(command: libc::c_int, attr: &T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` begins the union that the command expects and its size says where it ends; the
    // addresses in it are of live buffers as large as the command uses.
    let rc =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

/// CPUs that may ever appear: per-CPU maps have a value for each.
fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<usize>().ok());
    last.map(|n| n + 1)
        .ok_or_else(|| io::Error::other("no CPU numbers in /sys/devices/system/cpu/possible"))
}
