//! What can go wrong, one small enum per operation.

use core::fmt;

/// Why no depot or reader could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A builder value is outside its range; the text names it.
    BadSetting(&'static str),
    /// The region or budget is smaller than header, table and one pool: bytes needed.
    TooSmall(usize),
    /// The region does not start on a 64-byte boundary.
    Misaligned,
    /// The region is neither zeroed nor a depot.
    NotADepot,
    /// The region is a depot of this other layout version.
    Version(u32),
    /// Somebody is initialising the region, or was killed doing so (then see
    /// [`Builder::take_over`](crate::Builder::take_over)).
    Unfinished,
    /// The header contradicts itself or the region's size; the text says where.
    Corrupt(&'static str),
    /// The region was made with eviction and is opened without, or the reverse.
    Flavour,
    /// Another writer uses the region: its process id, or 0 when all writer slots are taken.
    Busy(u32),
    /// The kernel refused memory: its error number.
    Memory(i32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::BadSetting(what) => write!(f, "{what} is out of range"),
            Error::TooSmall(needed) => {
                write!(f, "region or budget too small: {needed} bytes needed")
            }
            Error::Misaligned => f.write_str("region does not start on a 64-byte boundary"),
            Error::NotADepot => f.write_str("region is neither zeroed nor a stack depot"),
            Error::Version(v) => write!(f, "region has layout version {v}"),
            Error::Unfinished => f.write_str("region is half initialised"),
            Error::Corrupt(what) => write!(f, "region is corrupt: {what}"),
            Error::Flavour => f.write_str("region was made with the other eviction setting"),
            Error::Busy(0) => f.write_str("region has no free writer slot"),
            Error::Busy(pid) => write!(f, "region is in use by process {pid}"),
            Error::Memory(errno) => write!(f, "the kernel refused memory (error {errno})"),
        }
    }
}

impl core::error::Error for Error {}

/// Why a stack was not saved. Each reason has its counter in [`Stats`](crate::Stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No frames.
    Empty,
    /// Saving is switched off, or this process is a fork child that may not write the shared
    /// region.
    Disabled,
    /// The budget is used up and nothing is free for reuse.
    Full,
    /// More memory was needed, and the caller forbade it or the kernel refused it.
    GrowthRefused,
    /// The bucket stayed locked by somebody (possibly by the code that this signal handler
    /// interrupted).
    Contended,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Miss::Empty => "empty stack",
            Miss::Disabled => "saving is disabled",
            Miss::Full => "the depot is full",
            Miss::GrowthRefused => "growth refused",
            Miss::Contended => "bucket locked",
        })
    }
}

impl core::error::Error for Miss {}

/// Why a stack could not be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The handle is [`Handle::NONE`](crate::Handle::NONE).
    NoHandle,
    /// The handle points outside the pools, or at no record.
    BadHandle,
    /// The record was evicted.
    Evicted,
    /// The buffer is shorter than the stack, which has this many frames.
    BufferTooShort(usize),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::NoHandle => f.write_str("no stack was saved"),
            FetchError::BadHandle => f.write_str("not a handle of this depot"),
            FetchError::Evicted => f.write_str("the stack was evicted"),
            FetchError::BufferTooShort(depth) => write!(f, "the stack has {depth} frames"),
        }
    }
}

impl core::error::Error for FetchError {}

/// Why a reference could not be taken or put. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutError {
    /// The record has no references: one put too many, or an evicted handle.
    Unbalanced,
    /// The handle points outside the pools, or at no record.
    BadHandle,
    /// This process is a fork child that may not write the shared region.
    Disabled,
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Unbalanced => "the stack has no references left to put",
            PutError::BadHandle => "not a handle of this depot",
            PutError::Disabled => "this process may not write the region",
        })
    }
}

impl core::error::Error for PutError {}

/// What a successful put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The handle was [`Handle::NONE`](crate::Handle::NONE).
    Ignored,
    /// The record is persistent: nothing to count.
    Persistent,
    /// Others still hold references.
    Released,
    /// It was the last reference: the record is evicted.
    Evicted,
}
