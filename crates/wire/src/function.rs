//! Functions to probe, and what became of them.
//!
//! The command line fills an entry of the tables once, then raises the number of functions (or of
//! an object's functions). What became of it is an *outcome* in the counters, which agents write.

use crate::cell::{COUNT_BYTES, TIMED_BYTES};
use crate::error::Error;
use crate::layout::{FUNCTION_BYTES, OUTCOME_BYTES, REASON_BYTES, REASONS, count, head};
use crate::segment::Segment;
use alloc::string::String;
use core::sync::atomic::Ordering;

const ADDRESS: usize = 0;
const SIZE: usize = 8;
const AFTER: usize = 12;
const OBJECT: usize = 16;
const CELL: usize = 20;
const OFFSET: usize = 24;
const KIND: usize = 28;
/// In an outcome.
const STATE: usize = 0;
const REASON: usize = 4;
/// Beside the kind: returns can be probed.
const RETURNS: u32 = 1 << 8;

/// What a probe records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Entries.
    Count = 0,
    /// Entries, and the time to the return.
    Time = 1,
}

/// A function as the command line describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Virtual address in the object's file (what symbols hold).
    pub address: u64,
    /// Bytes of code.
    pub size: u32,
    /// Bytes behind it that belong to no other function.
    pub after: u32,
    /// Where in the function the probe goes; 0 is its entry.
    pub offset: u32,
    /// What to record.
    pub kind: Kind,
    /// Whether its returns can be probed, as far as its name and place tell. Counting needs that,
    /// too, where a branch back to the first byte is not a call.
    pub returns: bool,
    /// Offset of its cell in every block.
    pub cell: u32,
}

/// What became of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its object has not been met yet.
    Pending,
    /// Probed by a jump.
    Detour,
    /// Probed by a breakpoint.
    Breakpoint,
    /// Left alone; the reason says why.
    Skipped,
}

impl State {
    fn from_word(word: u32) -> Self {
        match word {
            1 => Self::Detour,
            2 => Self::Breakpoint,
            3 => Self::Skipped,
            _ => Self::Pending,
        }
    }
}

impl Segment {
    /// Reserves `bytes` in every block, a multiple of 64, for a function's cell.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_cell(&self, bytes: usize) -> Result<u32, Error> {
        let start = usize::try_from(self.tables.load64(head::CELLS_END)).unwrap_or(usize::MAX);
        let end = start
            .checked_add(bytes.next_multiple_of(64))
            .filter(|end| *end <= self.layout.block_bytes)
            .ok_or(Error::Full("cells"))?;
        self.tables.store64(head::CELLS_END, end as u64);
        // Below 2^30: the layout's limit.
        Ok(start as u32)
    }

    /// Adds a function of the object that will be added at index `object`.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_function(&self, object: usize, function: &Function) -> Result<usize, Error> {
        let index = self.functions_len();
        let at = self.layout.function(index).ok_or(Error::Full("functions"))?;
        let outcome = self.outcome(index).ok_or(Error::Full("functions"))?;
        let filled = self.tables.reach(at + FUNCTION_BYTES)
            && self.fill_entry(&self.tables, at, FUNCTION_BYTES)
            && self.fill_entry(&self.outcomes, outcome, OUTCOME_BYTES);
        if !filled {
            return Err(Error::Full("functions"));
        }
        self.tables.store64(at + ADDRESS, function.address);
        self.tables.store32(at + SIZE, function.size);
        self.tables.store32(at + AFTER, function.after);
        self.tables.store32(at + OBJECT, object as u32);
        self.tables.store32(at + CELL, function.cell);
        self.tables.store32(at + OFFSET, function.offset);
        self.tables
            .store32(at + KIND, function.kind as u32 | if function.returns { RETURNS } else { 0 });
        if let Some(len) = self.tables.u64(head::FUNCTIONS_LEN) {
            // Release pairs with the Acquire in `functions_len`.
            len.store(index as u64 + 1, Ordering::Release);
        }
        Ok(index)
    }

    /// Bytes of each block that have functions.
    pub fn cells_len(&self) -> usize {
        // Relaxed: who finds a function (Acquire) finds its cell counted here.
        (self.tables.load64(head::CELLS_END) as usize).min(self.layout.block_bytes)
    }

    /// Functions known.
    pub fn functions_len(&self) -> usize {
        // Acquire pairs with the Release in `add_function`.
        let len = self.tables.u64(head::FUNCTIONS_LEN).map_or(0, |w| w.load(Ordering::Acquire));
        usize::try_from(len).unwrap_or(usize::MAX).min(self.layout.shape.functions)
    }

    /// The function at `index`, if its cell lies inside a block. Does not allocate.
    pub fn function(&self, index: usize) -> Option<Function> {
        (index < self.functions_len()).then_some(())?;
        let at = self.layout.function(index)?;
        // The table has grown since it was mapped.
        self.tables.reach(at + FUNCTION_BYTES).then_some(())?;
        let word = self.tables.load32(at + KIND);
        let kind = if word & !RETURNS == 0 { Kind::Count } else { Kind::Time };
        let cell = self.tables.load32(at + CELL);
        let bytes = match kind {
            Kind::Count => crate::cell::COUNT_BYTES,
            Kind::Time => crate::cell::TIMED_BYTES,
        };
        (cell.is_multiple_of(64) && cell as usize + bytes <= self.layout.block_bytes)
            .then_some(())?;
        Some(Function {
            address: self.tables.load64(at + ADDRESS),
            size: self.tables.load32(at + SIZE),
            after: self.tables.load32(at + AFTER),
            offset: self.tables.load32(at + OFFSET),
            kind,
            returns: word & RETURNS != 0,
            cell,
        })
    }

    /// Index of the object that the function belongs to.
    pub fn object_of(&self, function: usize) -> Option<usize> {
        let at = self.layout.function(function)?;
        self.tables.reach(at + FUNCTION_BYTES).then(|| self.tables.load32(at + OBJECT) as usize)
    }

    /// Where a function's outcome is, once that is mapped.
    fn outcome(&self, function: usize) -> Option<usize> {
        let at = self.layout.outcome(function)?;
        self.outcomes.reach(at + OUTCOME_BYTES).then_some(at)
    }

    /// What became of a function.
    pub fn state(&self, function: usize) -> State {
        let word = self.outcome(function).and_then(|at| self.outcomes.u32(at + STATE));
        // Acquire pairs with the Release in `set_state`: the reason is there.
        State::from_word(word.map_or(0, |w| w.load(Ordering::Acquire)))
    }

    /// Why it was left alone, or why it took a breakpoint, or why only its entry is probed; empty
    /// when there is nothing to say. Allocates.
    pub fn reason(&self, function: usize) -> String {
        let Some(at) = self.outcome(function) else { return String::new() };
        let number = (self.outcomes.load32(at + REASON) as usize).checked_sub(1);
        let text = number
            .and_then(|n| self.layout.reason(n))
            .map(|at| self.fixed.get_bytes(at, REASON_BYTES));
        String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
    }

    /// For the agent: what became of a function. A text of more than 247 bytes is cut; the number
    /// of different texts is limited, later ones read as the last.
    pub fn set_state(&self, function: usize, state: State, reason: &str) {
        let Some(at) = self.outcome(function) else { return };
        self.outcomes.store32(
            at + REASON,
            if reason.is_empty() { 0 } else { self.intern(reason.as_bytes()) },
        );
        if let Some(w) = self.outcomes.u32(at + STATE) {
            // Release pairs with the Acquire in `state`.
            w.store(state as u32, Ordering::Release);
        }
    }

    /// For an agent: memory that the segment takes at least once a thread counts this function and
    /// all before it, in bytes. Large blocks get their pages as they are touched, so what is
    /// measured does not have them yet.
    pub fn bytes_with(&self, index: usize, function: &Function) -> u64 {
        let cell = if function.kind == Kind::Time { TIMED_BYTES } else { COUNT_BYTES };
        let tables = (index + 1) * (FUNCTION_BYTES + OUTCOME_BYTES);
        let needed = (function.cell as usize).saturating_add(cell).saturating_add(tables);
        self.fixed.load64(count::MEASURED).max(needed as u64)
    }

    /// 1 + the index of `text` in the table of reasons. Two agents that add the same text at once
    /// may add it twice.
    fn intern(&self, text: &[u8]) -> u32 {
        let text = text.get(..REASON_BYTES - 9).unwrap_or(text);
        for index in 0..REASONS {
            let Some(at) = self.layout.reason(index) else { break };
            let Some(claim) = self.fixed.u64(at + REASON_BYTES - 8) else { break };
            // Acquire pairs with the Release below. 0 free, 1 being written, 2 complete.
            match claim.compare_exchange(0, 1, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    self.fixed.put_bytes(at, REASON_BYTES - 8, text);
                    claim.store(2, Ordering::Release);
                    return index as u32 + 1;
                }
                Err(2) if self.same(at, text) => return index as u32 + 1,
                Err(_) => {}
            }
        }
        REASONS as u32
    }

    fn same(&self, at: usize, text: &[u8]) -> bool {
        let theirs = self.fixed.slice(at, REASON_BYTES - 8).unwrap_or_default();
        theirs.get(text.len()).is_some_and(|end| end.load(Ordering::Relaxed) == 0)
            && theirs.iter().zip(text).all(|(a, b)| a.load(Ordering::Relaxed) == *b)
    }
}
