//! The two fences as a value that knows their mode, for protocols whose fast side is a handful of
//! instructions.
#![cfg_attr(not(loom), allow(unreachable_pub, reason = "public for models"))]

use percpu::fence::Mode;
use percpu::sync::atomic::{Ordering, compiler_fence, fence};

/// A pair of fences. A parameter of the protocols, so that a model can show what goes wrong without
/// one of them.
pub trait Fences: Copy {
    /// The fence of the fast side, between its store and its load.
    fn light(self);
    /// The fence of the slow side, between its store and its load.
    fn heavy(self);
}

/// The fences of [`percpu::fence`], with their mode at hand: asking for it at each `light()` costs
/// a quarter of a hazard pointer's time.
#[derive(Clone, Copy, Debug)]
pub struct Asymmetric {
    symmetric: bool,
}

impl Asymmetric {
    /// For who has asked before, and was told that `light()` is a compiler fence.
    pub const COMPILER: Self = Self { symmetric: false };
    /// For who was told that it is a full fence.
    pub const SYMMETRIC: Self = Self { symmetric: true };

    /// Asks how the fences work in this process, which never changes afterwards.
    #[inline]
    pub fn new() -> Self {
        Self { symmetric: percpu::fence::mode() == Mode::Symmetric }
    }

    /// Whether `light()` is a full fence.
    #[inline(always)]
    pub fn is_symmetric(self) -> bool {
        self.symmetric
    }
}

impl Default for Asymmetric {
    fn default() -> Self {
        Self::new()
    }
}

impl Fences for Asymmetric {
    #[inline(always)]
    fn light(self) {
        if self.symmetric {
            unlikely();
            fence(Ordering::SeqCst);
        } else {
            compiler_fence(Ordering::SeqCst);
        }
    }

    #[inline]
    fn heavy(self) {
        percpu::fence::heavy();
    }
}

/// Marks the branch that it is called in as the rare one: it then lies outside of the straight
/// line.
#[cold]
#[inline]
pub(crate) fn unlikely() {}
