//! The two kinds of domain, which differ in who pays for the order between a reader's count and its
//! loads.

use super::counters::{Atomic, Counters};
use super::machine::Protocol;
use super::per_thread::PerThread;
use crate::policy::Fences;
use core::fmt;

/// A kind of [domain](super::SrcuDomain): [`Normal`] or [`Fast`]. Part of the domain's type, so
/// that a domain cannot mix them.
pub trait Flavour: sealed::Flavour {}

pub(super) mod sealed {
    /// What a flavour consists of.
    pub trait Flavour: super::Protocol + super::fmt::Debug {
        /// How sections are counted.
        type Counters: super::Counters + super::fmt::Debug;
    }
}

/// Readers fence, with a locked instruction; a grace period makes no system call and disturbs no
/// other CPU.
#[derive(Debug)]
pub enum Normal {}

/// Readers count with a plain add in their thread's record and do not fence; a grace period makes
/// two `membarrier` system calls, which interrupt the other CPUs.
#[derive(Debug)]
pub enum Fast {}

impl Flavour for Normal {}

impl sealed::Flavour for Normal {
    type Counters = Atomic;
}

impl Protocol for Normal {}

impl Fences for Normal {
    /// Comes right after the count, which on x86-64 is a locked instruction and thereby a full
    /// barrier of the processor: what is missing is the compiler's half.
    #[inline(always)]
    fn light() {
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        percpu::sync::atomic::compiler_fence(percpu::sync::atomic::Ordering::SeqCst);
        #[cfg(not(all(target_arch = "x86_64", not(loom))))]
        crate::policy::full();
    }

    #[inline]
    fn heavy() {
        crate::policy::full();
    }
}

impl Flavour for Fast {}

impl sealed::Flavour for Fast {
    type Counters = PerThread;
}

impl Protocol for Fast {}

impl Fences for Fast {
    /// Comes right after the count, which takes this path only where `percpu::fence::light` is a
    /// compiler fence, and has called that function elsewhere.
    #[inline(always)]
    fn light() {
        percpu::sync::atomic::compiler_fence(percpu::sync::atomic::Ordering::SeqCst);
    }

    #[inline]
    fn heavy() {
        percpu::fence::heavy();
    }
}
