//! Threads that are given a name after they have counted: the new one is written down when it is
//! given, by `prctl` or `pthread_setname_np`. Not at the end of the thread, for that would take
//! system calls that a program which has given up most of them does not expect there.
//!
//! A name that is given by a system call of the program's own, or through `/proc`, is not seen.
#![allow(unsafe_code)]

use super::{c_library, filters};
use crate::own_probes::OwnProbes;
use crate::{control_block, segment};
use core::arch::asm;
use uprobe::{Context, Verdict};

/// Bytes of a name, with the terminating zero.
const ROOM: usize = 16;
/// What distinguishes the probes.
const PRCTL: usize = 0;
const SETNAME: usize = 1;

/// Adds the probes.
pub(crate) fn watch(probes: &mut OwnProbes<'_>) {
    for (name, number) in [(c"prctl", PRCTL), (c"pthread_setname_np", SETNAME)] {
        c_library::add(probes, name, called, number, "new names of threads are not seen");
    }
}

fn called(context: &mut Context, data: usize, _cookie: &mut u64) -> Verdict {
    let registers = &context.registers;
    let (first, second) = (registers.rdi, registers.rsi);
    match c_library::count(data) {
        PRCTL if first as i32 == libc::PR_SET_SECCOMP => {
            filters::by_prctl(second, registers.rdx);
        }
        // Signals are not blocked, nor is anything of the C library called: a sandboxed program may
        // allow no more system calls than it makes itself.
        PRCTL if first as i32 == libc::PR_SET_NAME => {
            // The kernel reads the name, which may not be readable: the call that follows does the
            // same once more, and what comes back is cut as it will be.
            let mut name = [0; ROOM];
            if prctl(libc::PR_SET_NAME, second) == 0
                && prctl(libc::PR_GET_NAME, name.as_mut_ptr().addr() as u64) == 0
            {
                segment::name_thread(until_zero(&name));
            }
        }
        SETNAME => {
            // SAFETY: the C library reads up to the terminating zero, too.
            if let Some(name) = unsafe { string(second) } {
                match tid(first) {
                    Of::Caller => segment::name_thread(name),
                    Of::Other(tid) => segment::name_other(tid, name),
                    Of::Nobody => {}
                }
            }
        }
        _ => {}
    }
    Verdict::Skip
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A string of the program's, unless it is too long for a name.
///
/// # Safety
/// It ends with a zero, and nobody changes it meanwhile.
unsafe fn string<'a>(address: u64) -> Option<&'a [u8]> {
    let start = core::ptr::with_exposed_provenance::<u8>(address as usize);
    for len in 0..ROOM {
        // SAFETY: no byte before it was zero.
        if unsafe { start.wrapping_add(len).read() } == 0 {
            // SAFETY: those were read.
            return Some(unsafe { core::slice::from_raw_parts(start, len) });
        }
    }
    None
}

/// Whom a `pthread_t` means.
enum Of {
    Caller,
    Other(u32),
    Nobody,
}

/// glibc's `pthread_t` is the address of the control block.
fn tid(thread: u64) -> Of {
    if thread == control_block::own() {
        return Of::Caller;
    }
    if segment::own_tid().is_some_and(control_block::compare) {
        // SAFETY: the program's own thread, which the C library is about to name.
        Of::Other(unsafe { control_block::number(thread) })
    } else {
        Of::Nobody
    }
}

/// By itself: the C library's may be probed.
fn prctl(option: i32, argument: u64) -> isize {
    let result;
    // SAFETY: naming and asking for a name change nothing else; the kernel checks the pointer, and
    // clobbers rax, rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") libc::SYS_prctl as isize => result,
            in("rdi") i64::from(option),
            in("rsi") argument,
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::{Of, string, tid, until_zero};

    #[test]
    fn names_end_with_a_zero_within_sixteen_bytes() {
        let read = |text: &'static core::ffi::CStr| {
            // SAFETY: a constant that ends with a zero.
            unsafe { string(text.as_ptr().expose_provenance() as u64) }
        };
        assert_eq!(read(c""), Some(&b""[..]));
        assert_eq!(read(c"fifteen letters"), Some(&b"fifteen letters"[..]));
        assert_eq!(read(c"sixteen letters!"), None);
        assert_eq!(until_zero(b"name\0rest\0"), b"name");
        assert_eq!(until_zero(b"0123456789abcdef"), b"0123456789abcdef");
    }

    #[test]
    fn a_thread_knows_itself() {
        // SAFETY: takes nothing.
        let own = unsafe { libc::pthread_self() };
        assert!(matches!(tid(own), Of::Caller));
    }
}
