//! Programs that this one executes: they get our variables back, so that the agent comes along.
//!
//! Probes on the C library's `execve`, `execveat` and `fexecve` replace the argument that holds the
//! environment. Everything else that executes programs (`execvp`, `posix_spawn`, `system`, `popen`)
//! ends in one of these, so no call is missed and no variadic function has to be wrapped. What they
//! are given stays theirs: the array is a copy.
//!
//! A child of `vfork` runs here on its parent's memory, thread-local storage included, while the
//! parent's thread waits: the copy belongs to the thread and is reused at its next exec.
#![allow(unsafe_code)]

use super::c_library;
use crate::own_probes::OwnProbes;
use crate::{environment, follow, segment};
use percpu::tls::{self, Key};
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use uprobe::{Context, Verdict};
use wire::Segment;

/// Arguments that hold the environment, by number.
const FUNCTIONS: [(&CStr, usize); 3] = [(c"execve", 2), (c"execveat", 3), (c"fexecve", 2)];
/// Their places in it.
const EXECVE: usize = 0;
const EXECVEAT: usize = 1;

/// An environment with our variables.
struct Copy {
    array: Vec<*const c_char>,
    preload: CString,
}

/// Adds the probes.
pub(crate) fn watch(probes: &mut OwnProbes<'_>) {
    let without = "programs that are executed are not followed";
    for (number, (name, _)) in FUNCTIONS.into_iter().enumerate() {
        c_library::add(probes, name, called, number, without);
    }
}

fn called(context: &mut Context, data: usize, _cookie: &mut u64) -> Verdict {
    let at = c_library::count(data);
    let program = program(at, context);
    let registers = &mut context.registers;
    let place = if FUNCTIONS[at].1 == 2 { &mut registers.rdx } else { &mut registers.rcx };
    if segment::get().is_none_or(Segment::stopped) {
        return Verdict::Skip;
    }
    if uprobe::is_sealed() {
        uprobe::own_code(|| note_sealed(program));
    } else {
        let theirs = ptr::with_exposed_provenance(*place as usize);
        // SAFETY: the program waits for its call of execve.
        *place =
            uprobe::own_code(|| unsafe { with_ours(program, theirs) }).expose_provenance() as u64;
    }
    Verdict::Skip
}

/// The program has given up system calls: its successor, which inherits that, could arm nothing,
/// and it may be that we cannot ask what of the arguments is readable.
fn note_sealed(path: *const c_char) {
    let is_known = !path.is_null() && Foreign::default().is_string(path);
    // SAFETY: a string, up to its end in readable memory.
    let path = if is_known { unsafe { CStr::from_ptr(path) } } else { c"a program" };
    follow::missed(path, "a filter of system calls");
}

/// The path of what is executed, if it is given as one that needs no descriptor; any other is null.
fn program(at: usize, context: &Context) -> *const c_char {
    let registers = &context.registers;
    let path = match at {
        EXECVE => registers.rdi,
        EXECVEAT if registers.rdi as libc::c_int == libc::AT_FDCWD => registers.rsi,
        _ => 0,
    };
    ptr::with_exposed_provenance(path as usize)
}

/// Memory that the program names and that may not be there: the page that was found readable last.
#[derive(Default)]
struct Foreign {
    page: usize,
}

impl Foreign {
    /// Bytes for which the kernel is asked once.
    const PAGE: usize = 4096;

    fn is_readable(&mut self, at: usize) -> bool {
        let page = at & !(Self::PAGE - 1);
        if page != self.page || page == 0 {
            // Where the byte's page begins or ends makes no difference.
            if !uprobe::readable((at & !7) as u64) {
                return false;
            }
            self.page = page;
        }
        true
    }

    /// The strings of an array that ends with a null; `None`: the kernel could not read them all
    /// either. A null is an empty array, as it is for the kernel.
    fn variables(&mut self, array: *const *const c_char) -> Option<Vec<*const c_char>> {
        let mut all = Vec::new();
        let mut place = array;
        while !array.is_null() {
            // An array that is not aligned may lie across two pages.
            if !(self.is_readable(place.addr()) && self.is_readable(place.addr() + 7)) {
                return None;
            }
            // SAFETY: the kernel has just read there.
            let variable = unsafe { place.read_unaligned() };
            if variable.is_null() {
                break;
            }
            all.push(variable);
            place = place.wrapping_add(1);
        }
        all.iter().all(|v| self.is_string(*v)).then_some(all)
    }

    fn is_string(&mut self, text: *const c_char) -> bool {
        let mut at = text;
        loop {
            if !self.is_readable(at.addr()) {
                return false;
            }
            let end = (at.addr() | (Self::PAGE - 1)) + 1;
            while at.addr() < end {
                // SAFETY: in a page in which the kernel has just read.
                if unsafe { at.read() } == 0 {
                    return true;
                }
                at = at.wrapping_add(1);
            }
        }
    }
}

/// Says why `path` runs without the agent, if it does: its file tells, or we are out of reach.
///
/// # Safety
/// Nobody changes the string meanwhile, if it is readable at all.
unsafe fn note(path: *const c_char, reachable: bool) {
    if path.is_null() || !Foreign::default().is_string(path) {
        return;
    }
    // SAFETY: a string, up to its end in readable memory.
    let path = unsafe { CStr::from_ptr(path) };
    let why = match follow::obstacle(path) {
        None if !reachable && follow::executable(path) => Some(follow::OUT_OF_REACH),
        why => why,
    };
    if let Some(why) = why {
        follow::missed(path, why);
    }
}

/// The environment with our variables, in memory of this thread's; the same if there are none.
///
/// # Safety
/// Nobody changes `program`, the array at `theirs` or its strings meanwhile, if they are readable
/// at all.
unsafe fn with_ours(program: *const c_char, theirs: *const *const c_char) -> *const *const c_char {
    let Some(ours) = environment::ours() else { return theirs };
    let reachable = ours.reachable();
    // SAFETY: what the caller promises.
    unsafe { note(program, reachable) };
    if !reachable {
        return theirs;
    }
    let mut array = vec![ours.segment.as_ptr()];
    let mut preload = None;
    // What cannot be read stays as it is, for the kernel to refuse.
    let Some(variables) = Foreign::default().variables(theirs) else { return theirs };
    for variable in variables {
        // SAFETY: a string, up to its end in readable memory.
        let text = unsafe { CStr::from_ptr(variable) }.to_bytes();
        match environment::preload_value(text) {
            Some(value) => preload = Some(value),
            None if environment::is_segment(text) => {}
            None => array.push(variable),
        }
    }
    let Ok(preload) = CString::new(environment::with_agent(preload, &ours.agent)) else {
        return theirs;
    };
    array.push(preload.as_ptr());
    array.push(ptr::null());
    let copy = Box::into_raw(Box::new(Copy { array, preload }));
    let old = tls::get(Key::User1).cast::<Copy>();
    // SAFETY: the key is this module's, which expects null or a copy there.
    unsafe { tls::set(Key::User1, copy.cast()) };
    if !old.is_null() {
        // SAFETY: made here by an earlier exec of this thread, which has failed, or whose child has
        // left our memory.
        drop(unsafe { Box::from_raw(old) });
    }
    // SAFETY: just made; only this thread frees it.
    let copy = unsafe { &*copy };
    debug_assert!(!copy.preload.as_bytes().is_empty(), "it names the agent");
    copy.array.as_ptr()
}
