//! What the compiler takes for granted where there is no C library: functions on bytes, and what
//! the precompiled `core` names although nothing unwinds there.
#![allow(unsafe_code)]

use core::arch::asm;
use sys::process;

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller's promise; the direction flag is clear, by the ABI.
    unsafe {
        asm!(
            "rep movsb",
            inout("rdi") to => _,
            inout("rsi") from => _,
            inout("rcx") bytes => _,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= bytes {
        // SAFETY: what is read was not written before, front to back.
        return unsafe { memcpy(to, from, bytes) };
    }
    // SAFETY: the caller's promise; back to front, and the flag is clear again afterwards.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rdi") to.wrapping_add(bytes).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(bytes).wrapping_sub(1) => _,
            inout("rcx") bytes => _,
            options(nostack),
        );
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    // SAFETY: the caller's promise; the direction flag is clear, by the ABI.
    unsafe {
        asm!(
            "rep stosb",
            inout("rdi") to => _,
            inout("rcx") bytes => _,
            in("al") value as u8,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, bytes: usize) -> i32 {
    for at in 0..bytes {
        // SAFETY: the caller's promise. Volatile, or the loop becomes a call of this function.
        let a = unsafe { a.wrapping_add(at).read_volatile() };
        // SAFETY: as above.
        let b = unsafe { b.wrapping_add(at).read_volatile() };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, bytes: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, bytes) }
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut bytes = 0;
    // SAFETY: the caller's promise. Volatile: as above.
    while unsafe { text.wrapping_add(bytes).read_volatile() } != 0 {
        bytes += 1;
    }
    bytes
}

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    process::abort()
}
