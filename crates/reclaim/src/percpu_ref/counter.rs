//! The life of a reference count.
//!
//! # States
//! - *per-CPU*: the gate of the cells is open, the word contains [`BIAS`]. `get` and `put` add to a
//!   cell; a thread that cannot, adds to the word.
//! - *atomic*: the gate is closed, the word is the number of references, and whoever makes it zero
//!   releases.
//! - *switching*, between the two: the gate is closed and the word still, or already, contains the
//!   bias. `get` and `put` go to the word, which cannot become zero.
//! - *broken*: a switch to atomic found too few references. Closed and biased for ever.
//!
//! Orthogonal to it: `DEAD` in the word, set by `kill` and cleared by `reinit` and `resurrect`. A
//! live count holds one reference of its own, which `kill` puts.
//!
//! Whoever changes the mode or the dead bit holds `switching`; everybody changes the word, by
//! compare-and-swap.
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "models reach these types through `percpu_ref::model`")
)]

use super::cells::Cells;
use super::error::Error;
use super::word::{BIAS, DEAD, ONE, SMALL, Word};
use crate::backoff::Backoff;
use core::marker::PhantomData;
use percpu::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use percpu::{CachePadded, fork};

/// True for the real one; models set them to false to see what breaks.
pub trait Protocol: 'static {
    /// The word contains the bias while the cells are in use.
    const BIASED: bool = true;
    /// Closing the cells waits for the adds in progress.
    const WAITS: bool = true;
}

/// The protocol as it should be.
#[derive(Debug)]
pub enum Sound {}

impl Protocol for Sound {}

/// How a reference count begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Begin in atomic mode, and stay in it until
    /// [`switch_to_percpu`](super::PercpuRef::switch_to_percpu). Implies `allow_reinit`.
    pub atomic: bool,
    /// Begin killed, without references; [`reinit`](super::PercpuRef::reinit) brings it to life.
    /// Implies `allow_reinit`.
    pub dead: bool,
    /// Allow [`reinit`](super::PercpuRef::reinit) and [`resurrect`](super::PercpuRef::resurrect).
    pub allow_reinit: bool,
}

const PER_CPU: u8 = 0;
const ATOMIC: u8 = 1;
const BROKEN: u8 = 2;

/// A reference count without the release callback.
#[derive(Debug)]
pub struct Counter<P> {
    cells: Cells,
    word: CachePadded<AtomicU64>,
    /// [`PER_CPU`], [`ATOMIC`] or [`BROKEN`]. For the holder of `switching`.
    mode: AtomicU8,
    /// 1: stay in atomic mode also when brought back to life. For the holder of `switching`.
    keep_atomic: AtomicU8,
    /// 0, or the fork generation in which a thread took the right to switch.
    switching: AtomicU64,
    allow_reinit: bool,
    _protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> Counter<P> {
    /// Begins as `options` say; a live one with one reference.
    pub fn new(options: Options) -> Self {
        let Options { atomic, dead, allow_reinit } = options;
        let cells = Cells::new();
        let (mode, word) = if atomic || dead {
            // Nobody is there yet to be waited for.
            cells.close(false);
            (ATOMIC, if dead { DEAD } else { ONE })
        } else {
            (PER_CPU, if P::BIASED { ONE | BIAS } else { ONE })
        };
        Self {
            cells,
            word: CachePadded::new(AtomicU64::new(word)),
            mode: AtomicU8::new(mode),
            keep_atomic: AtomicU8::new(u8::from(atomic)),
            switching: AtomicU64::new(0),
            allow_reinit: allow_reinit || atomic || dead,
            _protocol: PhantomData,
        }
    }

    /// Takes references. For callers that hold one.
    #[inline(always)]
    pub fn get(&self, n: u32) -> Result<(), Error> {
        if n <= SMALL && self.cells.add(u64::from(n)) {
            Ok(())
        } else {
            self.get_shared(n, |word| !word.is_zero())
        }
    }

    /// Takes references unless there is none.
    #[inline(always)]
    pub fn try_get(&self, n: u32) -> bool {
        self.get(n).is_ok()
    }

    /// Takes a reference unless the count is dying.
    #[inline(always)]
    pub fn try_get_live(&self) -> bool {
        // The dead bit is set before the gate is closed, and both before `kill` confirms: whoever
        // comes later finds the gate closed and reads the bit.
        self.cells.add(1) || self.get_shared(1, |word| !word.is_zero() && !word.is_dead()).is_ok()
    }

    /// Gives references back. True: they were the last, and the caller has to release.
    #[inline(always)]
    pub fn put(&self, n: u32) -> Result<bool, Error> {
        if n <= SMALL && self.cells.add(u64::from(n).wrapping_neg()) {
            Ok(false)
        } else {
            self.put_shared(n)
        }
    }

    #[inline(never)]
    fn get_shared(&self, n: u32, allowed: impl Fn(Word) -> bool) -> Result<(), Error> {
        // Acquire pairs with the Release in `revive`: who takes a reference of a new life sees what
        // was done to the object between two lives (in per-CPU mode, by the gate).
        let taken = self.update(Ordering::Acquire, |word| {
            if allowed(word) { word.plus(u64::from(n)) } else { None }
        });
        match taken {
            Ok(_) => Ok(()),
            Err(word) if allowed(word) => Err(Error::Overflow),
            Err(_) => Err(Error::Zero),
        }
    }

    #[inline(never)]
    fn put_shared(&self, n: u32) -> Result<bool, Error> {
        // AcqRel: what each holder did with the object before its put happens before the release,
        // through the chain of puts.
        let before = self
            .update(Ordering::AcqRel, |word| word.minus(u64::from(n)))
            .map_err(|_| Error::Underflow)?;
        Ok(n != 0 && before.minus(u64::from(n)).is_some_and(Word::is_zero))
    }

    /// Replaces the word by what `f` makes of it. `Err`: `f` refused.
    #[inline]
    fn update(&self, order: Ordering, f: impl Fn(Word) -> Option<Word>) -> Result<Word, Word> {
        let mut now = Word(self.word.load(Ordering::Relaxed));
        loop {
            let Some(next) = f(now) else { return Err(now) };
            match self.word.compare_exchange_weak(now.0, next.0, order, Ordering::Relaxed) {
                Ok(_) => return Ok(now),
                Err(other) => now = Word(other),
            }
        }
    }

    /// Whether `kill` was called.
    pub fn is_dead(&self) -> bool {
        // Acquire pairs with the Release in `kill`.
        Word(self.word.load(Ordering::Acquire)).is_dead()
    }

    /// Whether no reference is left; false in per-CPU mode.
    pub fn is_zero(&self) -> bool {
        // Acquire pairs with the puts: who sees zero sees the object released by everybody. In
        // per-CPU mode the bias makes it false.
        Word(self.word.load(Ordering::Acquire)).is_zero()
    }

    /// Whether adds go to the cells at this moment.
    pub fn is_percpu(&self) -> bool {
        self.cells.is_open()
    }

    /// Marks it dead and brings it into atomic mode. The caller then confirms, and puts the first
    /// reference.
    pub fn kill(&self) -> Result<(), Error> {
        let _switch = self.begin_switch()?;
        if self.is_dead() {
            return Err(Error::AlreadyDead);
        }
        self.cells.may_close()?;
        // Release pairs with the Acquire in `is_dead`.
        self.word.fetch_or(DEAD, Ordering::AcqRel);
        self.to_atomic()
    }

    /// Into atomic mode, and to stay there over deaths.
    pub fn switch_to_atomic(&self) -> Result<(), Error> {
        let _switch = self.begin_switch()?;
        self.cells.may_close()?;
        self.keep_atomic.store(1, Ordering::Relaxed);
        self.to_atomic()
    }

    /// Into per-CPU mode; a dead one when it comes back to life.
    pub fn switch_to_percpu(&self) -> Result<(), Error> {
        let _switch = self.begin_switch()?;
        match self.mode.load(Ordering::Relaxed) {
            BROKEN => return Err(Error::Unbalanced),
            ATOMIC if !self.is_dead() => {
                if self.is_zero() {
                    return Err(Error::Zero);
                }
                self.to_percpu();
            }
            // A dead one comes back in per-CPU mode.
            _ => {}
        }
        self.keep_atomic.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Dead, without references -> live.
    pub fn reinit(&self) -> Result<(), Error> {
        self.revive(|word| if word.is_zero() { Ok(()) } else { Err(Error::NotZero) })
    }

    /// Dead, with references -> live.
    pub fn resurrect(&self) -> Result<(), Error> {
        self.revive(|word| if word.is_zero() { Err(Error::Zero) } else { Ok(()) })
    }

    fn revive(&self, fits: impl Fn(Word) -> Result<(), Error>) -> Result<(), Error> {
        let _switch = self.begin_switch()?;
        let check = |word: Word| if word.is_dead() { fits(word) } else { Err(Error::NotDead) };
        if !self.allow_reinit {
            return Err(Error::NotReinitable);
        }
        if self.mode.load(Ordering::Relaxed) == BROKEN {
            return Err(Error::Unbalanced);
        }
        // AcqRel: the new life begins after everything that was done in the old one.
        self.update(Ordering::AcqRel, |word| {
            if check(word).is_ok() { Word(word.0 & !DEAD).plus(1) } else { None }
        })
        .map_err(|word| check(word).err().unwrap_or(Error::Overflow))?;
        if self.keep_atomic.load(Ordering::Relaxed) == 0 {
            self.to_percpu();
        }
        Ok(())
    }

    /// atomic -> per-CPU, by the holder of `switching`, with at least one reference held.
    fn to_percpu(&self) {
        if P::BIASED {
            // Relaxed: published by the opening of the gate.
            self.word.fetch_add(BIAS, Ordering::Relaxed);
        }
        self.mode.store(PER_CPU, Ordering::Relaxed);
        self.cells.open();
    }

    /// per-CPU -> atomic, by the holder of `switching`, with at least one reference held.
    fn to_atomic(&self) -> Result<(), Error> {
        match self.mode.load(Ordering::Relaxed) {
            PER_CPU => {}
            BROKEN => return Err(Error::Unbalanced),
            _ => return Ok(()),
        }
        self.cells.close(P::WAITS);
        let cells = self.cells.sum();
        let fold = |word: Word| {
            if P::BIASED {
                word.folded(cells)
            } else {
                Some(Word(word.0.wrapping_add(cells.wrapping_mul(ONE))))
            }
        };
        // AcqRel: puts that went to the cells happen, through this, before the put that releases.
        match self.update(Ordering::AcqRel, fold) {
            Ok(_) => {
                self.mode.store(ATOMIC, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => {
                self.mode.store(BROKEN, Ordering::Relaxed);
                Err(Error::Unbalanced)
            }
        }
    }

    fn begin_switch(&self) -> Result<Switch<'_>, Error> {
        let generation = fork::generation();
        let mut backoff = Backoff::new();
        loop {
            // Acquire pairs with the Release in `Switch::drop`.
            match self.switching.compare_exchange(
                0,
                generation,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(Switch(&self.switching)),
                Err(theirs) if theirs != generation => return Err(Error::Abandoned),
                Err(_) => backoff.wait(),
            }
        }
    }
}

/// The right to switch.
struct Switch<'a>(&'a AtomicU64);

impl Drop for Switch<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `begin_switch`.
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::word::MOST;
    use super::*;

    /// A live count that holds `held` references, as if it had taken them one after the other.
    fn holding(options: Options, held: u64) -> Counter<Sound> {
        let counter = Counter::<Sound>::new(options);
        // Relaxed: nobody else has it.
        counter.word.fetch_add((held - 1) * ONE, Ordering::Relaxed);
        counter
    }

    /// A count that wraps would be zero, and released, while references are held.
    #[test]
    fn a_count_that_would_wrap_refuses() {
        let large = u64::from(u32::MAX);
        for atomic in [true, false] {
            let mut held = MOST - 2 * large;
            let counter = holding(Options { atomic, ..Options::default() }, held);
            counter.get(u32::MAX).expect("room for it");
            held += large;
            assert_eq!(
                (counter.get(u32::MAX), counter.try_get(u32::MAX)),
                (Err(Error::Overflow), false)
            );
            assert!(!counter.is_zero());
            if atomic {
                // Exactly the bound is reached by a smaller step, and none goes beyond.
                let room = MOST - 1 - held;
                counter
                    .get(u32::try_from(room).expect("less than the step before"))
                    .expect("room for it");
                held += room;
                assert_eq!((counter.get(1), counter.try_get(1)), (Err(Error::Overflow), false));
                assert!(!counter.try_get_live());
            }
            // All but the last few steps at once, then down to the last.
            let few = 3 * large + 5;
            counter.word.fetch_sub((held - few) * ONE, Ordering::Relaxed);
            counter.kill().expect("alive");
            for left in [2 * large + 5, large + 5, 5] {
                assert_eq!(counter.put(u32::MAX), Ok(false), "{left} are left");
            }
            assert_eq!((counter.put(6), counter.put(5)), (Err(Error::Underflow), Ok(true)));
            assert!(counter.is_zero());
        }
    }

    /// The word may owe references to the cells, but not so many that it comes to zero.
    #[test]
    fn a_word_that_would_owe_too_much_refuses() {
        let counter = holding(Options::default(), 1);
        counter.word.fetch_sub((MOST - 2) * ONE, Ordering::Relaxed);
        assert_eq!(counter.put(u32::MAX), Err(Error::Underflow));
        assert!(!counter.is_zero());
        // Small steps go to the cells all the same.
        assert_eq!(counter.put(1), Ok(false));
        counter.kill().expect_err("more were put than taken");
    }
}
