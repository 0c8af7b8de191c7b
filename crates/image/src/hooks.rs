//! Functions of the program's that the image probes for itself: the dynamic loader's for debuggers,
//! by which it hears of libraries that are opened and closed, and those that execute programs. At
//! these the thread waits until the command line has done what is to be done, which it does from
//! outside, as at the start.
//!
//! A library that is being opened was mapped and not relocated, when the loader calls its function,
//! and one that is closed is gone: nobody is in its code. A program that is executed has yet to be:
//! the command line traces the thread from here on.
//!
//! In a program that was started so also those by which it blocks and handles signals: it does that
//! with other arguments where breakpoints could not trap ([`uprobe::signals::beside`]).
#![allow(unsafe_code)]

use crate::{known, segment, threads};
use core::time::Duration;
use sys::{Errno, process, thread};
use uprobe::signals::beside;
use uprobe::{Action, Consumer, Context, Target, Vectors, Verdict};
use wire::{Function, Identity, Kind, Loss, Patience, What, hook};

/// How long the program waits for the command line. That may have files to read that are large, and
/// the machine be busy.
const PATIENCE: Patience =
    Patience { idle: Duration::from_secs(2), longest: Duration::from_secs(60) };
/// Bytes behind the function's first that may be its own or padding: the plan says which it needs.
const AFTER: u32 = 15;
/// Bits of a consumer's data that say which function it is.
const WHICH: usize = 0b1111;
/// `AT_FDCWD`.
const OWN_DIRECTORY: i32 = -100;

/// Where a function of an object would be that is at `address` in its file.
pub(crate) fn place(address: u64) -> Function {
    let (size, offset, cell) = (1, 0, 0);
    Function { address, size, after: AFTER, offset, kind: Kind::Count, returns: false, cell }
}

/// The probe on the function [`hook::ALL`] has as `which`, at `address`; `cell`: where the user
/// wants its calls to be counted.
pub(crate) fn target(which: usize, address: u64, after: u32, cell: Option<u32>) -> Target {
    let consumer = Consumer {
        entry: Some(called),
        ret: None,
        span: None,
        busy: Some(missed),
        data: which | cell.map_or(0, |cell| cell as usize + 1) << WHICH.count_ones(),
        vectors: Vectors::Sse,
        limit: 0,
    };
    let entry = Target::entry(address, 1, Action::Call(consumer));
    Target { after, returns: false, traps: false, ..entry }
}

/// The cell that a call is to be counted in.
fn cell(data: usize) -> Option<u32> {
    (data >> WHICH.count_ones()).checked_sub(1).map(|cell| cell as u32)
}

fn called(context: &mut Context, data: usize, _cookie: &mut u64) -> Verdict {
    if let Some(cell) = cell(data) {
        uprobe::count_call_in_consumer(cell);
    }
    if hook::is_of_signals(data & WHICH) {
        about_signals(context, data & WHICH);
        return Verdict::Skip;
    }
    let [first, second] = [context.registers.rdi, context.registers.rsi];
    let execute = |directory| What::Execute { thread: thread::gettid().cast_unsigned(), directory };
    uprobe::slowly(&mut || match data & WHICH {
        hook::LOADED if known::has_changed() => ask(What::Loaded, 0),
        hook::LOADED => {}
        hook::EXECVE if is_not_there(first) => {}
        hook::EXECVE => ask(execute(OWN_DIRECTORY), first),
        hook::EXECVEAT => ask(execute(first as i32), second),
        _ => ask(execute(first as i32), 0),
    });
    Verdict::Skip
}

/// Has the function do with its arguments what keeps breakpoints trapping.
fn about_signals(context: &mut Context, which: usize) {
    if which == hook::PTHREAD_CREATE {
        return threads::about_to_start(context);
    }
    let registers = &mut context.registers;
    let first = registers.rdi as i32;
    if which == hook::SIGPENDING {
        if let Some(pending) = beside::pending_instead() {
            // SAFETY: the program's pointer, to a set, which begins with the kernel's 64 bits.
            unsafe { pointer::<u64>(registers.rdi).write(pending) };
            registers.rax = 0;
            registers.rip = nothing as *const () as u64;
        }
        return;
    }
    let [new, old] = [registers.rsi, registers.rdx];
    let instead = if which == hook::SIGACTION {
        // SAFETY: the pointers that the program calls the function with.
        let all = unsafe { beside::instead_of_sigaction(first, pointer(new), pointer(old)) };
        [all.0.expose_provenance(), all.1.expose_provenance()]
    } else {
        // SAFETY: as above.
        let (how, all) = unsafe { beside::instead_of_mask(first, pointer(new), pointer(old)) };
        registers.rdi = u64::from(how.cast_unsigned());
        [all.0.expose_provenance(), all.1.expose_provenance()]
    };
    [registers.rsi, registers.rdx] = instead.map(|address| address as u64);
}

fn pointer<T>(address: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut(address as usize)
}

/// What a function returns by that is not to run.
#[unsafe(naked)]
extern "C" fn nothing() {
    core::arch::naked_asm!("ret");
}

/// A call in a signal handler that has interrupted a consumer of this thread: nobody is asked.
fn missed(data: usize) {
    if let Some(cell) = cell(data) {
        uprobe::count_call(cell);
    }
    if hook::is_of_signals(data & WHICH) {
        return;
    }
    segment::with(|attached| attached.segment.lose(Loss::Unanswered, 1));
}

/// Whether there is certainly no program at this path: who looks through a list of directories need
/// not wait at each.
fn is_not_there(path: u64) -> bool {
    let looked = process::may_execute(path as usize);
    matches!(looked, Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EFAULT))
}

/// Has the command line do something, and waits until it has.
fn ask(what: What, address: u64) {
    segment::with(|attached| {
        let segment = &attached.segment;
        if segment.stopped() {
            return;
        }
        let lives = || segment.owner_lives(segment::space());
        // Not the process that the segment knows: this may be a child of `vfork`.
        let pid = process::getpid().cast_unsigned();
        let asks = lives() && !segment.is_silent();
        let object = Identity::default();
        if asks && segment.ask_about(what, pid, &object, address, PATIENCE, lives).is_ok() {
            return;
        }
        if asks {
            segment.note_silence();
        }
        segment.lose(Loss::Unanswered, 1);
    });
}
