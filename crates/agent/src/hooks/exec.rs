//! Programs that this one executes: they get our variables back, so that the agent comes along.
//!
//! Probes on the C library's `execve`, `execveat` and `fexecve` replace the argument that holds the environment. Everything else that executes programs (`execvp`, `posix_spawn`, `system`, `popen`)
//! ends in one of these, so no call is missed and no variadic function has to be wrapped. What they are given stays theirs: the array is a copy.
//!
//! A child of `vfork` runs here on its parent's memory, thread-local storage included, while the parent's thread waits: the copy belongs to the thread and is reused at its next exec.
#![allow(unsafe_code)]

use crate::{environment, log, segment, watched};
use percpu::tls::{self, Key};
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use uprobe::{Action, Consumer, Context, Engine, Patching, Target, Vectors, Verdict};

/// Arguments that hold the environment, by number.
const FUNCTIONS: [(&CStr, usize); 3] = [(c"execve", 2), (c"execveat", 3), (c"fexecve", 2)];
/// Bytes that are looked at; the functions are longer, and nothing in their first bytes depends on the rest.
const SIZE_LIMIT: u64 = 64;

/// An environment with our variables.
struct Copy {
    array: Vec<*const c_char>,
    preload: CString,
}

/// Puts the probes in place.
pub(crate) fn watch(engine: &'static Engine) {
    let mut batch = engine.batch();
    for (name, argument) in FUNCTIONS {
        // SAFETY: a name that lives through the call.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        let Some(size) = size_of_function(address) else { continue };
        let Some(number) = watched::add(address.addr() as u64) else { continue };
        let consumer = Consumer {
            entry: Some(called),
            ret: None,
            span: None,
            busy: None,
            data: number << 8 | argument,
            vectors: Vectors::All,
            limit: 0,
        };
        batch.add(Target { returns: false, ..Target::entry(address.addr() as u64, size, Action::Call(consumer)) });
    }
    for result in batch.commit(Patching::Quiet) {
        if let Err(why) = result {
            log::line(&format!("programs that are executed are not followed: {why}"));
        }
    }
}

/// Bytes of an exported function, from its symbol.
fn size_of_function(address: *const std::ffi::c_void) -> Option<u32> {
    if address.is_null() {
        return None;
    }
    // SAFETY: zero is a valid Dl_info.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let mut symbol: *const libc::Elf64_Sym = ptr::null();
    // SAFETY: places for the answers; RTLD_DL_SYMENT asks for the symbol.
    let found = unsafe { dladdr1(address, &raw mut info, (&raw mut symbol).cast(), RTLD_DL_SYMENT) } != 0;
    // SAFETY: the loader's table.
    let symbol = unsafe { symbol.as_ref() }.filter(|_| found)?;
    u32::try_from(symbol.st_size).ok().filter(|size| u64::from(*size) < 64 * SIZE_LIMIT && *size > 0)
}

const RTLD_DL_SYMENT: libc::c_int = 1;

unsafe extern "C" {
    fn dladdr1(
        address: *const std::ffi::c_void,
        info: *mut libc::Dl_info,
        extra: *mut *mut std::ffi::c_void,
        flags: libc::c_int,
    ) -> libc::c_int;
}

fn called(context: &mut Context, data: usize, _cookie: &mut u64) -> Verdict {
    let (number, argument) = (data >> 8, data & 0xff);
    watched::count(number);
    let registers = &mut context.registers;
    let place = if argument == 2 { &mut registers.rdx } else { &mut registers.rcx };
    if segment::get().is_some_and(|s| !s.stopped()) {
        let theirs = ptr::with_exposed_provenance(*place as usize);
        // SAFETY: the program passes null or a null-terminated array of strings.
        *place = uprobe::own_code(|| unsafe { with_ours(theirs) }).expose_provenance() as u64;
    }
    Verdict::Skip
}

/// The environment with our variables, in memory of this thread's; the same if there are none.
///
/// # Safety
/// `theirs` is null or a null-terminated array of strings.
unsafe fn with_ours(theirs: *const *const c_char) -> *const *const c_char {
    let Some(ours) = environment::ours() else { return theirs };
    let mut array = vec![ours.segment.as_ptr()];
    let mut preload = None;
    for i in 0.. {
        if theirs.is_null() {
            break;
        }
        // SAFETY: the array goes on up to its null.
        let place = unsafe { theirs.add(i) };
        // SAFETY: as above.
        let variable = unsafe { place.read() };
        if variable.is_null() {
            break;
        }
        // SAFETY: a string.
        let text = unsafe { CStr::from_ptr(variable) }.to_bytes();
        match environment::preload_value(text) {
            Some(value) => preload = Some(value),
            None if environment::is_segment(text) => {}
            None => array.push(variable),
        }
    }
    let Ok(preload) = CString::new(environment::with_agent(preload, &ours.agent)) else { return theirs };
    array.push(preload.as_ptr());
    array.push(ptr::null());
    let copy = Box::into_raw(Box::new(Copy { array, preload }));
    let old = tls::get(Key::User1).cast::<Copy>();
    tls::set(Key::User1, copy.cast());
    if !old.is_null() {
        // SAFETY: made here by an earlier exec of this thread, which has failed, or whose child has left our memory.
        drop(unsafe { Box::from_raw(old) });
    }
    // SAFETY: just made; only this thread frees it.
    let copy = unsafe { &*copy };
    debug_assert!(!copy.preload.as_bytes().is_empty(), "it names the agent");
    copy.array.as_ptr()
}
