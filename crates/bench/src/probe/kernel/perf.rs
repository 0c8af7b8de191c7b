//! perf_event_open(2) on the `uprobe` device: the kernel's own probe on a function of this process.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Which end of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its first instruction.
    Entry,
    /// Its return.
    Return,
}

/// `struct perf_event_attr` up to `config2` (`PERF_ATTR_SIZE_VER1`).
#[repr(C)]
#[derive(Default)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint_type: u32,
    config1: u64,
    config2: u64,
}

const _: () = assert!(size_of::<Attr>() == 72, "PERF_ATTR_SIZE_VER1");

const IOC_ENABLE: libc::c_ulong = 0x2400;
const IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// An armed kernel probe; closing it takes it away.
#[derive(Debug)]
pub(super) struct Probe(OwnedFd);

impl Probe {
    /// Arms `end` of the function at `address`, which lies in this program's own file. At each hit
    /// `program` runs if there is one, on any CPU; else perf counts the hits on `cpu`.
    ///
    /// The event is one for all processes, as libbpf's are: one for this process would not follow
    /// into its threads (`inherit` makes clone fail on this device).
    pub(super) fn arm(
        address: u64,
        end: End,
        program: Option<&OwnedFd>,
        cpu: usize,
    ) -> io::Result<Self> {
        let kind = std::fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?;
        let kind = kind.trim().parse().map_err(io::Error::other)?;
        let (path, offset) = file_offset(address)?;
        let path = CString::new(path)?;
        let attr = Attr {
            kind,
            size: size_of::<Attr>() as u32,
            // Bit 0 is `retprobe` (/sys/bus/event_source/devices/uprobe/format/retprobe).
            config: u64::from(end == End::Return),
            config1: path.as_ptr() as u64,
            config2: offset,
            ..Attr::default()
        };
        const EVERYBODY: libc::pid_t = -1;
        const NO_GROUP: libc::c_int = -1;
        const CLOSE_ON_EXEC: libc::c_ulong = 8;
        // SAFETY: `attr` has the size that it says, and the path that it points at is live.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                EVERYBODY,
                cpu,
                NO_GROUP,
                CLOSE_ON_EXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to us alone.
        let probe = Self(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        if let Some(program) = program {
            probe.control(IOC_SET_BPF, program.as_raw_fd())?;
        }
        probe.control(IOC_ENABLE, 0)?;
        Ok(probe)
    }

    /// Hits as perf counts them; with a program that returns 0 they stay uncounted.
    pub(super) fn hits(&self) -> io::Result<u64> {
        let mut value = 0_u64;
        // SAFETY: the descriptor is open and the buffer is eight bytes.
        let n = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut value).cast(), 8) };
        if n == 8 { Ok(value) } else { Err(io::Error::last_os_error()) }
    }

    fn control(&self, request: libc::c_ulong, argument: libc::c_int) -> io::Result<()> {
        // SAFETY: both requests take an integer.
        let rc = unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The file that is mapped at `address`, and where in it that byte is.
fn file_offset(address: u64) -> io::Result<(String, u64)> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        let offset = hex(fields.nth(1)?)?;
        let path = fields.nth(2)?;
        (start <= address && address < end).then(|| (path.to_owned(), address - start + offset))
    };
    maps.lines().find_map(line).ok_or_else(|| io::Error::other("the function is in no file"))
}
