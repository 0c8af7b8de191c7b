//! What can go wrong, each a small enum of its own.

use core::fmt;

/// Why a pool could not be built. Nothing is left allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The capacity is 0 or above [`MAX_CAPACITY`](crate::MAX_CAPACITY).
    Capacity(usize),
    /// The object size in bytes is above [`MAX_OBJECT_SIZE`](crate::MAX_OBJECT_SIZE), or so is the
    /// alignment.
    ObjectSize(usize),
    /// Capacity times object size is beyond the address space.
    Overflow,
    /// The allocator returned nothing.
    OutOfMemory,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity(n) => {
                write!(f, "a pool has 1 to {} objects, not {n}", crate::MAX_CAPACITY)
            }
            Self::ObjectSize(n) => {
                write!(f, "an object has at most {} bytes, not {n}", crate::MAX_OBJECT_SIZE)
            }
            Self::Overflow => f.write_str("capacity times object size is beyond the address space"),
            Self::OutOfMemory => f.write_str("out of memory"),
        }
    }
}

impl core::error::Error for BuildError {}

/// Why a pool whose objects are initialised one by one could not be built. What was initialised
/// before is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError<E> {
    /// Before any object was initialised.
    Build(BuildError),
    /// The initialiser failed.
    Init {
        /// At which object.
        index: usize,
        /// What it said.
        error: E,
    },
}

impl<E> From<BuildError> for InitError<E> {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl<E: fmt::Display> fmt::Display for InitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Init { index, error } => write!(f, "initialising object {index}: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for InitError<E> {}

/// Why a push was refused. The pool is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// The pointer is not the start of an object of this pool.
    Foreign,
    /// The object is not out: it was pushed already, or never popped.
    NotOut,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "the pointer is not an object of this pool",
            Self::NotOut => "the object is in the pool already",
        })
    }
}

impl core::error::Error for PushError {}
