//! Object pools from crates.io.
#![allow(unsafe_code)]

use super::case::OBJECT_SIZE;
use super::source::{RawSource, Source};
use std::ptr::NonNull;

type Object = [u64; OBJECT_SIZE / 8];

/// lockfree-object-pool's linear pool.
pub(super) struct Linear(lockfree_object_pool::LinearObjectPool<Object>);

impl Linear {
    pub(super) fn new(capacity: usize) -> Self {
        let pool = lockfree_object_pool::LinearObjectPool::new(|| [0; OBJECT_SIZE / 8], |_| ());
        drop((0..capacity.min(1024)).map(|_| pool.pull()).collect::<Vec<_>>());
        Self(pool)
    }
}

impl Source for Linear {
    type Item<'a> = lockfree_object_pool::LinearReusable<'a, Object>;

    #[inline(always)]
    fn take(&self) -> Option<Self::Item<'_>> {
        Some(self.0.pull())
    }

    #[inline(always)]
    fn write(item: &mut Self::Item<'_>, value: u64) {
        super::source::write(NonNull::from(&mut **item).cast(), value);
    }

    #[inline(always)]
    fn give<'a>(&'a self, item: Self::Item<'a>) {
        drop(item);
    }
}

/// opool: an `ArrayQueue` of boxes behind guards.
pub(super) struct Opool(opool::Pool<Zeroed, Box<Object>>);

pub(super) struct Zeroed;

impl opool::PoolAllocator<Box<Object>> for Zeroed {
    fn allocate(&self) -> Box<Object> {
        Box::new([0; OBJECT_SIZE / 8])
    }
}

impl Opool {
    pub(super) fn new(capacity: usize) -> Self {
        Self(opool::Pool::new_prefilled(capacity, Zeroed))
    }
}

impl Source for Opool {
    type Item<'a> = opool::RefGuard<'a, Zeroed, Box<Object>>;

    #[inline(always)]
    fn take(&self) -> Option<Self::Item<'_>> {
        Some(self.0.get())
    }

    #[inline(always)]
    fn write(item: &mut Self::Item<'_>, value: u64) {
        super::source::write(NonNull::from(&mut ***item).cast(), value);
    }

    #[inline(always)]
    fn give<'a>(&'a self, item: Self::Item<'a>) {
        drop(item);
    }
}

/// object-pool: a locked stack of boxes.
pub(super) struct ObjectPool(object_pool::Pool<Box<Object>>);

impl ObjectPool {
    pub(super) fn new(capacity: usize) -> Self {
        Self(object_pool::Pool::new(capacity, || Box::new([0; OBJECT_SIZE / 8])))
    }
}

impl RawSource for ObjectPool {
    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        let (_, object) = self.0.try_pull()?.detach();
        NonNull::new(Box::into_raw(object).cast())
    }

    #[inline(always)]
    fn give(&self, object: NonNull<u64>) {
        // SAFETY: `take` made the pointer from a box of this type, and it is given back once.
        self.0.attach(unsafe { Box::from_raw(object.cast::<Object>().as_ptr()) });
    }
}

/// sharded-slab's pool.
#[derive(Default)]
pub(super) struct Sharded(sharded_slab::Pool<Item>);

/// An object that keeps its content when it is cleared.
#[derive(Default)]
pub(super) struct Item(Object);

impl sharded_slab::Clear for Item {
    fn clear(&mut self) {}
}

impl Source for Sharded {
    type Item<'a> = sharded_slab::pool::RefMut<'a, Item>;

    #[inline(always)]
    fn take(&self) -> Option<Self::Item<'_>> {
        self.0.create()
    }

    #[inline(always)]
    fn write(item: &mut Self::Item<'_>, value: u64) {
        super::source::write(NonNull::from(&mut item.0).cast(), value);
    }

    #[inline(always)]
    fn give<'a>(&'a self, item: Self::Item<'a>) {
        let key = item.key();
        drop(item);
        self.0.clear(key);
    }
}
