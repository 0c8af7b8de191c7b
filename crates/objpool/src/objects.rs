//! The objects' memory: one block, object i at i times the stride.
#![allow(unsafe_code)]

use crate::{BuildError, MAX_CAPACITY, MAX_OBJECT_SIZE};
use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;

/// Objects of one slot have neighbouring numbers, so they lie together.
#[derive(Debug)]
pub(crate) struct Objects {
    base: NonNull<u8>,
    stride: usize,
    /// The stride is `odd << shift`, and this times `odd` is 1 modulo 2^64: see `index_of`.
    inverse: u64,
    shift: u32,
    capacity: usize,
    object: Layout,
    block: Layout,
}

// SAFETY: Objects owns a block of bytes and gives out addresses only.
unsafe impl Send for Objects {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for Objects {}

const CACHE_LINE: usize = 64;
const MIN_ALIGN: usize = 8;
const _: () = assert!(
    MAX_CAPACITY as u64 <= u64::MAX / MAX_OBJECT_SIZE as u64,
    "`index_of` tells what is no multiple of the stride by a number above this"
);

impl Objects {
    /// Zeroed memory.
    pub(crate) fn new(capacity: usize, object: Layout) -> Result<Self, BuildError> {
        if capacity == 0 || capacity > MAX_CAPACITY {
            return Err(BuildError::Capacity(capacity));
        }
        let align = object.align().max(MIN_ALIGN);
        if let Some(bad) = [object.size(), align].into_iter().find(|bytes| *bytes > MAX_OBJECT_SIZE)
        {
            return Err(BuildError::ObjectSize(bad));
        }
        // An object without size has an address of its own all the same: it is what tells objects
        // apart.
        let stride = object.size().max(1).next_multiple_of(align);
        let bytes = (stride as u64)
            .checked_mul(capacity as u64)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or(BuildError::Overflow)?;
        let block = Layout::from_size_align(bytes, align.max(CACHE_LINE))
            .map_err(|_| BuildError::Overflow)?;
        // SAFETY: the size is not 0, because neither factor is.
        let base = NonNull::new(unsafe { alloc_zeroed(block) }).ok_or(BuildError::OutOfMemory)?;
        let shift = stride.trailing_zeros();
        let inverse = inverse((stride >> shift) as u64);
        Ok(Self { base, stride, inverse, shift, capacity, object, block })
    }

    #[inline(always)]
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn layout(&self) -> Layout {
        self.object
    }

    /// The address of object `index`.
    ///
    /// # Safety
    /// `index` is below the capacity.
    #[inline(always)]
    pub(crate) unsafe fn at(&self, index: u32) -> NonNull<u8> {
        // SAFETY: below the capacity, so the product stays inside the block.
        unsafe { self.base.add(index as usize * self.stride) }
    }

    /// The number of the object at `p`, if one starts there.
    #[inline(always)]
    pub(crate) fn index_of(&self, p: NonNull<u8>) -> Option<u32> {
        let offset = p.addr().get().wrapping_sub(self.base.addr().get()) as u64;
        // Division by a number of which it may be no multiple (H. S. Warren, Hacker's Delight,
        // 10-17): times the inverse of the odd part, and turned by the even part, a multiple is its
        // quotient. Anything else becomes a number above 2^64 / stride, and what lies in front of
        // the block, or behind it, one that is not below the capacity either.
        let index = offset.wrapping_mul(self.inverse).rotate_right(self.shift);
        (index < self.capacity as u64).then_some(index as u32)
    }
}

/// The number that times an odd one is 1 modulo 2^64: each step doubles the bits that are right, of
/// which an odd number has three of itself.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut right = 3;
    while right < 64 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        right *= 2;
    }
    inverse
}

impl Drop for Objects {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.block) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverses() {
        for odd in (1..70_000).step_by(2).chain([u64::MAX, u64::MAX / 3 * 2 + 1]) {
            assert_eq!(odd.wrapping_mul(inverse(odd)), 1, "{odd}");
        }
    }

    /// Near both ends and in the middle, of strides of every kind: only the first byte of an object
    /// has a number.
    #[test]
    fn no_other_address_has_a_number() {
        for size in (1..=80).chain([120, 280, 512, 1000, 4096, 65_528, 65_536]) {
            let objects = Objects::new(50, Layout::from_size_align(size, 8).expect("a layout"))
                .expect("memory");
            let base = objects.base.addr().get();
            let near = |at: usize| at.saturating_sub(100)..at + 100;
            for offset in near(0).chain(near(25 * objects.stride)).chain(near(50 * objects.stride))
            {
                for address in [base + offset, base - offset] {
                    let at = address.wrapping_sub(base);
                    let right = address >= base
                        && at.is_multiple_of(objects.stride)
                        && at / objects.stride < 50;
                    let address = NonNull::without_provenance(address.try_into().expect("not 0"));
                    let number = right.then_some((at / objects.stride) as u32);
                    assert_eq!(objects.index_of(address), number, "{at} of {size}");
                }
            }
        }
    }

    #[test]
    fn addresses_and_numbers_agree() {
        for (capacity, size, align) in [
            (1, 1, 1),
            (9, 0, 1),
            (5, 0, 64),
            (7, 8, 8),
            (1000, 280, 8),
            (333, 512, 64),
            (100, 65_536, 4096),
            (77, 65_535, 1),
        ] {
            let objects =
                Objects::new(capacity, Layout::from_size_align(size, align).expect("a layout"))
                    .expect("memory");
            assert_eq!(objects.capacity(), capacity);
            for index in 0..capacity as u32 {
                // SAFETY: below the capacity.
                let p = unsafe { objects.at(index) };
                assert_eq!(p.addr().get() % align.max(8), 0);
                assert_eq!(objects.index_of(p), Some(index));
                let inside = p.map_addr(|a| a.saturating_add(1));
                assert_eq!(objects.index_of(inside), None);
            }
            let before =
                objects.base.map_addr(|a| a.get().wrapping_sub(8).try_into().expect("not null"));
            assert_eq!(objects.index_of(before), None);
            let after = objects.base.map_addr(|a| a.saturating_add(objects.block.size()));
            assert_eq!(objects.index_of(after), None);
        }
    }
}
