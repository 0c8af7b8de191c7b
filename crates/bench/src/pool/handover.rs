//! The way from the thread that gets to the thread that gives back: Lamport's ring for one producer
//! and one consumer, with each side's last view of the other kept beside its own index (Giacomoni
//! and others, FastForward, PPoPP 2008, discuss why), so that the ring costs little beside what is
//! measured.
#![allow(unsafe_code)]

use super::case::{BULK, RING};
use super::source::RawSource;
use crate::harness::Seat;
use percpu::CachePadded;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// One side's own counter, and what it last saw of the other side's. Only this side writes either.
#[derive(Default)]
struct Side {
    own: AtomicU64,
    seen: AtomicU64,
}

/// Objects on their way from one thread to one other.
pub(super) struct Ring {
    producer: CachePadded<Side>,
    consumer: CachePadded<Side>,
    places: Box<[AtomicPtr<u64>]>,
}

impl Ring {
    fn new() -> Self {
        Self {
            producer: CachePadded::default(),
            consumer: CachePadded::default(),
            places: (0..RING).map(|_| AtomicPtr::default()).collect(),
        }
    }

    /// Places free, at least. For the producer.
    #[inline]
    pub(super) fn room(&self) -> u64 {
        // Relaxed: this side's own
        let (own, size) = (self.producer.own.load(Ordering::Relaxed), RING as u64);
        let room = size - (own - self.producer.seen.load(Ordering::Relaxed));
        if room >= BULK as u64 {
            return room;
        }
        // Acquire pairs with the consumer's Release in `get`: the place is empty again.
        let consumed = self.consumer.own.load(Ordering::Acquire);
        self.producer.seen.store(consumed, Ordering::Relaxed);
        size - (own - consumed)
    }

    /// Puts an object on the way. For the producer, when there is room.
    #[inline]
    pub(super) fn put(&self, object: NonNull<u64>) {
        let own = self.producer.own.load(Ordering::Relaxed); // Relaxed: this side's own
        // published by the next line
        self.places[own as usize % RING].store(object.as_ptr(), Ordering::Relaxed);
        self.producer.own.store(own + 1, Ordering::Release); // pairs with the Acquire in `filled`
    }

    /// Objects on the way, at least. For the consumer.
    #[inline]
    pub(super) fn filled(&self) -> u64 {
        let own = self.consumer.own.load(Ordering::Relaxed); // Relaxed: this side's own
        let filled = self.consumer.seen.load(Ordering::Relaxed) - own;
        if filled > 0 {
            return filled;
        }
        // Acquire pairs with the producer's Release in `put`: the object is in its place.
        let produced = self.producer.own.load(Ordering::Acquire);
        self.consumer.seen.store(produced, Ordering::Relaxed);
        produced - own
    }

    /// Takes the next object off. For the consumer.
    #[inline]
    pub(super) fn get(&self) -> Option<NonNull<u64>> {
        if self.filled() == 0 {
            return None;
        }
        let own = self.consumer.own.load(Ordering::Relaxed); // Relaxed: this side's own
        // ordered by the Acquire in `filled`
        let object = self.places[own as usize % RING].load(Ordering::Relaxed);
        self.consumer.own.store(own + 1, Ordering::Release); // pairs with the Acquire in `room`
        NonNull::new(object)
    }

    /// Waits a little for the other side; lets it run if it may need this very CPU.
    #[inline]
    pub(super) fn wait(&self, seat: Seat) {
        if seat.threads > 2 {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A source and the rings of its pairs of threads. What is still on the way at the end goes back to
/// the source.
pub(super) struct Handover<S: RawSource> {
    source: S,
    rings: Vec<Ring>,
}

impl<S: RawSource> Handover<S> {
    pub(super) fn new(source: S, pairs: usize) -> Self {
        Self { source, rings: (0..pairs).map(|_| Ring::new()).collect() }
    }

    pub(super) fn source(&self) -> &S {
        &self.source
    }

    pub(super) fn ring(&self, pair: usize) -> &Ring {
        &self.rings[pair]
    }
}

impl<S: RawSource> Drop for Handover<S> {
    fn drop(&mut self) {
        for ring in &self.rings {
            while let Some(object) = ring.get() {
                self.source.give(object);
            }
        }
    }
}

/// The floor of the handed-over cases: objects that nobody manages.
pub(super) struct Nothing(CachePadded<AtomicU64>);

impl Nothing {
    pub(super) fn new() -> Self {
        Self(CachePadded::default())
    }
}

impl RawSource for Nothing {
    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        // Many producers may write the same word: it belongs to this floor row alone and nobody
        // reads it.
        Some(NonNull::from(&*self.0).cast())
    }

    #[inline(always)]
    fn give(&self, _object: NonNull<u64>) {}
}
