//! The facade under loom.

/// Atomic types and fences. A compiler fence orders nothing between modelled threads, so it is a no-op here.
pub mod atomic {
    pub use loom::sync::atomic::{
        AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };

    /// Orders accesses against a signal handler of the same thread; loom does not model those.
    #[inline]
    pub fn compiler_fence(_order: Ordering) {}
}

/// Spin hints: under the model a spinning thread has to let the others run.
pub mod hint {
    pub use loom::hint::spin_loop;
}

/// Threads.
pub mod thread {
    pub use loom::thread::{JoinHandle, spawn, yield_now};
}

pub use loom::cell::UnsafeCell;
pub use loom::sync::Arc;
