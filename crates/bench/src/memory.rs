//! Heap bytes in use, as the C library counts them.
#![allow(unsafe_code)]

/// Bytes that malloc has handed out of the main arena, with its own headers, and of mmap. `None`
/// where the C library cannot say.
///
/// Only what the main thread allocates is in the main arena: callers that compare two readings
/// allocate on the main thread in between.
pub fn heap_bytes() -> Option<u64> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallinfo2 takes nothing and returns a plain struct.
        let info = unsafe { libc::mallinfo2() };
        Some((info.uordblks + info.hblkhd) as u64)
    }
    #[cfg(not(target_env = "gnu"))]
    None
}
