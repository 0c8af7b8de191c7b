//! Which fences a protocol uses, as a type: the same code runs with the real ones, and in a model
//! with one of them missing.
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "models reach these types through `rcu::model`")
)]

use percpu::sync::atomic::{Ordering, compiler_fence, fence};

/// A constructor that is `const` on the machine; a model checker's atomics have none.
macro_rules! const_unless_modelled {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty $body:block) => {
        $(#[$doc])*
        #[cfg(not(loom))]
        $vis const fn $name($($arg: $ty),*) -> $ret $body

        $(#[$doc])*
        #[cfg(loom)]
        $vis fn $name($($arg: $ty),*) -> $ret $body
    };
}
pub(crate) use const_unless_modelled;

/// The three fences of a grace-period protocol.
pub trait Fences: 'static {
    /// The reader's side, on every entry.
    fn light();
    /// The writer's side, once or a few times per grace period.
    fn heavy();
    /// Orders the writer's own unlinking before its look at the grace-period number.
    fn full() {
        full();
    }
}

/// Readers pay a compiler fence, writers a membarrier system call: [`percpu::fence`].
#[derive(Debug)]
pub struct Asymmetric;

impl Fences for Asymmetric {
    #[inline(always)]
    fn light() {
        percpu::fence::light();
    }

    #[inline]
    fn heavy() {
        percpu::fence::heavy();
    }
}

/// [`Asymmetric`] where `percpu::fence::mode()` is known to be `Membarrier`, so that the reader
/// need not ask.
#[derive(Debug)]
pub(crate) struct Membarrier;

impl Fences for Membarrier {
    #[inline(always)]
    fn light() {
        compiler_fence(Ordering::SeqCst);
    }

    #[inline]
    fn heavy() {
        percpu::fence::heavy();
    }
}

/// A `SeqCst` fence. All uses pair with each other and with `light`/`heavy`.
#[inline(always)]
pub(crate) fn full() {
    fence(Ordering::SeqCst);
}

/// Broken twins. Each must fail in a model that passes with [`Asymmetric`].
#[cfg(loom)]
pub mod broken {
    use super::{Fences, full};

    /// Readers do not fence.
    #[derive(Debug)]
    pub struct NoLight;

    impl Fences for NoLight {
        fn light() {}

        fn heavy() {
            full();
        }
    }

    /// The writer fences nowhere. (Not only its `heavy` is missing: a model has no asymmetric
    /// fences, and in it the writer's own `full` would do in the place of `heavy`.)
    #[derive(Debug)]
    pub struct NoHeavy;

    impl Fences for NoHeavy {
        fn light() {
            full();
        }

        fn heavy() {}

        fn full() {}
    }
}
