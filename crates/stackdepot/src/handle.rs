//! What `save` hands out, and how it is asked to save.

use core::fmt;
use core::ops::BitOr;

/// Bits of a handle that locate the record: its word number in the region.
pub(crate) const LOC_BITS: u32 = 27;
pub(crate) const LOC_MASK: u32 = (1 << LOC_BITS) - 1;

const _: () =
    assert!(LOC_BITS + Handle::EXTRA_BITS == 32, "location and user bits fill the handle");

/// Names one saved stack in 32 bits; [`Handle::NONE`] names nothing.
///
/// The low 27 bits are the record's offset in the region in units of 8 bytes, so a handle means the
/// same in every process that maps the region. The high 5 bits are the caller's: fetch and put
/// ignore them.
///
/// # Examples
/// ```
/// use stackdepot::{Depot, Flags};
///
/// let depot = Depot::builder().build_mmap()?;
/// let plain = depot.save(&[0x1000, 0x2000], Flags::CAN_GROW);
/// let marked = plain.with_extra(3);
/// assert_eq!(marked.extra(), 3);
/// assert_eq!(marked.without_extra(), plain);
/// # Ok::<(), stackdepot::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Handle(u32);

impl Handle {
    /// "Not saved".
    pub const NONE: Handle = Handle(0);
    /// How many bits of a handle belong to its user.
    pub const EXTRA_BITS: u32 = 5;

    /// The handle with these bits, as [`to_bits`](Self::to_bits) gave them.
    pub const fn from_bits(bits: u32) -> Self {
        // Extra bits never make something out of nothing.
        if bits & LOC_MASK == 0 { Handle(0) } else { Handle(bits) }
    }

    /// The handle as a number to store; 0 for [`Handle::NONE`].
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Whether nothing was saved.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The user's bits.
    pub const fn extra(self) -> u8 {
        (self.0 >> LOC_BITS) as u8
    }

    /// The same record with `extra` as the user's bits; of `extra` the low 5 bits count.
    /// [`Handle::NONE`] stays itself.
    #[must_use]
    pub const fn with_extra(self, extra: u8) -> Self {
        Self::from_bits((self.0 & LOC_MASK) | ((extra as u32) << LOC_BITS))
    }

    /// The same record without user bits: equal for equal stacks.
    #[must_use]
    pub const fn without_extra(self) -> Self {
        Handle(self.0 & LOC_MASK)
    }

    pub(crate) const fn at(loc: u32) -> Self {
        Handle(loc & LOC_MASK)
    }

    pub(crate) const fn loc(self) -> u32 {
        self.0 & LOC_MASK
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_none(), self.extra()) {
            (true, _) => f.write_str("Handle(none)"),
            (false, 0) => write!(f, "Handle({:#x})", self.loc()),
            (false, extra) => write!(f, "Handle({:#x}, extra {extra})", self.loc()),
        }
    }
}

/// How to save. Combine with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Persistent record, no new memory.
    pub const NONE: Flags = Flags(0);
    /// Take a reference: the record may be evicted once every reference was put. Without it the
    /// record stays for ever.
    pub const GET: Flags = Flags(1);
    /// New pool memory may be mapped (one system call now and then).
    pub const CAN_GROW: Flags = Flags(2);

    /// Whether all of `other` is set.
    #[inline]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_bits_on_none_leave_it_none() {
        assert!(Handle::NONE.with_extra(31).is_none());
        assert!(Handle::from_bits(0xf800_0000).is_none());
        assert_eq!(Handle::NONE.with_extra(31), Handle::NONE);
    }

    #[test]
    fn extra_bits_do_not_reach_the_location() {
        let h = Handle::at(0x1234).with_extra(0xff);
        assert_eq!((h.extra(), h.loc(), h.without_extra()), (31, 0x1234, Handle::at(0x1234)));
        assert_eq!(Handle::from_bits(h.to_bits()), h);
    }
}
