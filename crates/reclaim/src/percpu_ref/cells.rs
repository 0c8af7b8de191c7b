//! One counter per CPU, that can be closed and summed.
//!
//! With restartable sequences an add is a plain add behind a gate; closing the gate aborts the adds
//! in progress. Elsewhere an add is atomic, inside an RCU section in which the gate was seen open;
//! closing waits for those sections. Which of the two is decided once per process, so that a cell
//! is written by one kind only.
#![allow(unsafe_code)]

use super::error::Error;
use crate::rcu;
use core::slice;
use percpu::rseq::{self, Gate, Refused};
use percpu::sync::atomic::{AtomicU64, Ordering};
use percpu::{CachePadded, PerCpu};

#[derive(Debug)]
pub(super) struct Cells {
    /// Open: adds go to the cells. Closed: the cells are nobody's but the switcher's.
    gate: CachePadded<Gate>,
    cells: PerCpu<AtomicU64>,
}

impl Cells {
    /// All zero, open.
    pub(super) fn new() -> Self {
        let (gate, cells) = (Gate::new(), PerCpu::new(|_| AtomicU64::new(0)));
        assert!(cells.len() == gate.slots(), "one cell per possible CPU on both sides");
        Self { gate: CachePadded::new(gate), cells }
    }

    /// The cells, with a length that the compiler sees to be the gate's: `rseq::add` compares the
    /// two on every call otherwise.
    #[inline(always)]
    fn slots(&self) -> &[CachePadded<AtomicU64>] {
        // SAFETY: `new` checked that there are as many cells as the gate has slots; neither number
        // changes.
        unsafe { slice::from_raw_parts(self.cells.as_slice().as_ptr(), self.gate.slots()) }
    }

    /// Adds `n` (wrapping) to this CPU's cell. False: nothing was added, the shared word is the
    /// place.
    #[inline(always)]
    pub(super) fn add(&self, n: u64) -> bool {
        match rseq::add(&self.gate, self.slots(), n) {
            Ok(()) => true,
            Err(refused) => self.add_slow(n, refused),
        }
    }

    #[cold]
    #[inline(never)]
    fn add_slow(&self, n: u64, refused: Refused) -> bool {
        if refused == Refused::Closed {
            return false;
        }
        if rseq::available() {
            // The shared word takes references in every mode: that is what a thread which cannot be
            // registered uses.
            return rseq::register_thread() && rseq::add(&self.gate, self.slots(), n).is_ok();
        }
        // Pairs with the grace period in `close`: either this sees the gate closed, or `close`
        // waits for this section and the sum has the add.
        let _section = rcu::read_lock();
        if !self.gate.is_open() {
            return false;
        }
        // Relaxed: ordered by the section's end and the grace period, for a `put` as well as for a
        // `get`.
        self.cells.current().fetch_add(n, Ordering::Relaxed);
        true
    }

    /// Whether closing can wait here.
    pub(super) fn may_close(&self) -> Result<(), Error> {
        if !rseq::available() && rcu::is_inside() { Err(Error::InsideRcuSection) } else { Ok(()) }
    }

    /// From its return on the cells do not change, and every add that anybody saw succeed is in
    /// them. `waits` is true, save in a model that shows why.
    pub(super) fn close(&self, waits: bool) {
        // Taken back by `open`.
        core::mem::forget(self.gate.close());
        if waits && !rseq::available() {
            rcu::synchronize();
        }
    }

    /// The wrapping sum. Only between `close` and `open`.
    pub(super) fn sum(&self) -> u64 {
        // Relaxed: `close` has ordered the adds before this.
        self.cells.iter().fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }

    /// Starts over from zero. Only after `close`.
    pub(super) fn open(&self) {
        for cell in self.cells.iter() {
            // Relaxed: published by the opening of the gate.
            cell.store(0, Ordering::Relaxed);
        }
        // SAFETY: `close` forgot one, and these cells are opened once for it: see the counter's
        // states.
        unsafe { self.gate.open() };
    }

    pub(super) fn is_open(&self) -> bool {
        self.gate.is_open()
    }
}
