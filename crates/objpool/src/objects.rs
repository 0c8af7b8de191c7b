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
    /// 2^64 / stride, rounded up: see `index_of`.
    reciprocal: u64,
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
    MAX_CAPACITY as u64 * MAX_OBJECT_SIZE as u64 <= 1 << 40,
    "`index_of` is exact for offsets below 2^40"
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
        Ok(Self { base, stride, reciprocal: u64::MAX / stride as u64 + 1, object, block })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.block.size() / self.stride
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
        let offset = p.addr().get().wrapping_sub(self.base.addr().get());
        if offset >= self.block.size() {
            return None;
        }
        // offset / stride without a division. The reciprocal is less than 1 too large, which adds
        // less than 2^40 / 2^64 to the quotient: less than the 1 / stride that is missing to the
        // next integer.
        let index = ((offset as u128 * u128::from(self.reciprocal)) >> 64) as usize;
        (index * self.stride == offset).then_some(index as u32)
    }
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
