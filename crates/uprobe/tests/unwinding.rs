//! Frames that are left without a return, and whoever walks the stack.
#![allow(unsafe_code)]

mod common;

use common::{Callback, arm, calls, cell, returns, through, untimed, unwound};
use std::ffi::{CString, c_int, c_void};
use std::panic;
use std::path::PathBuf;
use std::process::Command;
use uprobe::statistics;
use uprobe::testing::Kind;

extern "C-unwind" fn escape(place: usize) {
    // SAFETY: `attempt` has filled it and is still there.
    unsafe { common::escape(std::ptr::with_exposed_provenance_mut(place)) }
}

#[test]
fn longjmp_20_000_times_keeps_the_instances_bounded() {
    const CELL: u32 = cell(0);
    arm(common::wrap_a as *const () as usize, Kind::Time(CELL));
    extern "C-unwind" fn enter(place: usize) {
        // At different depths.
        let pad = [0_u8; 64];
        std::hint::black_box(&pad);
        // SAFETY: a wrap calls the function.
        unsafe { common::wrap_a(escape, place) };
    }
    extern "C-unwind" fn enter_deeper(place: usize) {
        let pad = [0_u8; 4000];
        std::hint::black_box(&pad);
        enter(place);
    }
    std::thread::spawn(|| {
        let before = statistics().chunks;
        for round in 0..20_000 {
            let mut place = 0_usize;
            let f: Callback = if round % 3 == 0 { enter_deeper } else { enter };
            // SAFETY: `attempt` calls the function, which escapes to it.
            let escaped =
                unsafe { common::attempt(&raw mut place, f, (&raw mut place).expose_provenance()) };
            assert_eq!(escaped, 1);
        }
        assert!(
            statistics().chunks <= before + 8,
            "other tests hold some, this thread a few: {before} {:?}",
            statistics()
        );
        through(common::wrap_a, || ());
    })
    .join()
    .expect("no panic");
    assert_eq!((calls(CELL), returns(CELL), untimed(CELL)), (20_001, 1, 0));
    assert_eq!(unwound(CELL), 20_000, "found out at the latest when the thread ended");
}

#[test]
fn panics_pass() {
    const CELL: u32 = cell(1);
    arm(common::wrap_b as *const () as usize, Kind::Time(CELL));
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    std::thread::spawn(|| {
        for n in 0..300 {
            let caught = panic::catch_unwind(|| {
                through(common::wrap_b, || through(common::wrap_b, || panic::panic_any(n)))
            });
            assert_eq!(caught.expect_err("it panicked").downcast_ref::<i32>(), Some(&n));
        }
    })
    .join()
    .expect("no other panic");
    panic::set_hook(hook);
    assert_eq!((calls(CELL), returns(CELL), unwound(CELL)), (600, 0, 600));
}

unsafe extern "C" {
    fn backtrace(buffer: *mut *mut c_void, size: c_int) -> c_int;
}

fn walk() -> Vec<usize> {
    let mut buffer = [std::ptr::null_mut(); 64];
    // SAFETY: 64 places.
    let n = unsafe { backtrace(buffer.as_mut_ptr(), 64) };
    buffer[..n as usize].iter().map(|p| p.addr()).collect()
}

#[test]
fn backtrace_sees_the_callers() {
    const CELL: u32 = cell(2);
    #[inline(never)]
    fn trace() -> Vec<usize> {
        let mut seen = Vec::new();
        through(common::wrap_c, || through(common::wrap_c, || seen = walk()));
        seen
    }
    let bare = trace();
    arm(common::wrap_c as *const () as usize, Kind::Time(CELL));
    let probed = trace();
    assert!(bare.len() > 5);
    assert_eq!(calls(CELL), 2);
    // One frame more for each return instance, and the address behind it is one less.
    let instances = if common::EXITS { 0 } else { 2 };
    assert_eq!(probed.len(), bare.len() + instances, "{bare:x?} {probed:x?}");
    let mut from = 0;
    let mut missing = 0;
    for frame in &bare {
        match probed[from..].iter().position(|p| p == frame || p + 1 == *frame) {
            Some(further) => from += further + 1,
            None => missing += 1,
        }
    }
    assert_eq!(missing, 1, "all but the line of this test: {bare:x?} {probed:x?}");
}

const CPLUSPLUS: &str = r#"
#include <stdexcept>
#include <string>
struct Guard { int *n; ~Guard() { ++*n; } };
typedef void (*wrap_t)(void (*)(unsigned long), unsigned long);
static wrap_t the_wrap;
static int destroyed;
static void inner(unsigned long n) {
    Guard g{&destroyed};
    if (n == 0) throw std::runtime_error("from the depth");
    the_wrap(inner, n - 1);
}
extern "C" int throw_through(wrap_t wrap, unsigned long depth) {
    the_wrap = wrap;
    destroyed = 0;
    try { wrap(inner, depth); } catch (const std::exception &e) {
        if (std::string(e.what()) != "from the depth") return -1;
        try { throw; } catch (std::runtime_error &) { return destroyed; }
    }
    return -2;
}
"#;

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn cplusplus_exceptions_pass() {
    const CELL: u32 = cell(3);
    let scratch =
        Scratch(std::env::temp_dir().join(format!("uprobe-throw-{}", std::process::id())));
    std::fs::create_dir_all(&scratch.0).expect("a directory");
    let (source, library) = (scratch.0.join("throw.cc"), scratch.0.join("throw.so"));
    std::fs::write(&source, CPLUSPLUS).expect("writable");
    let built = Command::new("g++")
        .args(["-O1", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    if !built.is_ok_and(|s| s.success()) {
        eprintln!("skipped: no g++");
        return;
    }
    let path = CString::new(library.to_str().expect("UTF-8")).expect("no zero");
    // SAFETY: a library of our own.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null());
    // SAFETY: an open library, and a C string.
    let f = unsafe { libc::dlsym(handle, c"throw_through".as_ptr()) };
    assert!(!f.is_null());
    // SAFETY: the source above declares it so.
    let f: extern "C-unwind" fn(common::Wrap, u64) -> c_int = unsafe { std::mem::transmute(f) };
    arm(common::wrap_d as *const () as usize, Kind::Time(CELL));
    std::thread::spawn(move || {
        for _ in 0..200 {
            assert_eq!(f(common::wrap_d, 10), 11);
        }
    })
    .join()
    .expect("no panic");
    assert_eq!((calls(CELL), returns(CELL), unwound(CELL)), (2200, 0, 2200));
}

#[test]
fn a_frame_that_was_left_does_not_get_the_time_of_its_successors() {
    const CELL: u32 = cell(4);
    arm(common::wrap_e as *const () as usize, Kind::Time(CELL));
    std::thread::spawn(|| {
        let mut place = 0_usize;
        for _ in 0..50 {
            // SAFETY: as in the first test.
            unsafe {
                common::attempt(
                    &raw mut place,
                    escape_through_e,
                    (&raw mut place).expose_provenance(),
                )
            };
            through(common::wrap_e, || ());
        }
    })
    .join()
    .expect("no panic");
    assert_eq!((calls(CELL), returns(CELL), unwound(CELL)), (100, 50, 50));
}

extern "C-unwind" fn escape_through_e(place: usize) {
    // SAFETY: a wrap calls the function.
    unsafe { common::wrap_e(escape, place) };
}
