//! From frame to frame.
#![allow(unsafe_code)]

use crate::bounds::{self, Bounds, Stack};
use crate::cache::{Entry, Expected, Known};
use crate::host::{EXACT, Host, NoTrace, Trace};
use crate::learn::signal_frame;
use crate::rule::{ALIGNED, BP, NO_TABLE, OUTERMOST, Packed, SIGNAL, SP};
use crate::scratch::Scratch;
use crate::unwinder::{Unwinder, study};
use core::ptr;

/// How frames are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By unwind tables.
    Tables,
    /// By the chain of frame pointers; where it breaks off, by unwind tables.
    FramePointers,
}

/// Where a walk starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Address of an instruction.
    pub pc: u64,
    /// Stack pointer there.
    pub sp: u64,
    /// Frame pointer there.
    pub bp: u64,
    /// Whether it is a function's first instruction: then its return address is on top of the
    /// stack.
    pub entry: bool,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// The thread begins there.
    Complete = 0,
    /// The buffer is full.
    Deep = 1,
    /// Nothing describes the code: it was made at run time, or has no unwind information.
    NoTable = 2,
    /// Its unwind information uses what this crate does not know.
    Unsupported = 3,
    /// A frame does not lie where it should.
    BadFrame = 4,
    /// The stack was not found among the mappings (`/proc/self/maps`).
    NoBounds = 5,
    /// The lock of slow paths was not to be had.
    Busy = 6,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Complete,
        Self::Deep,
        Self::NoTable,
        Self::Unsupported,
        Self::BadFrame,
        Self::NoBounds,
        Self::Busy,
    ];

    /// In words; empty when it is complete.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Complete => "",
            Self::Deep => "deeper than the limit",
            Self::NoTable => "no unwind information",
            Self::Unsupported => "unwind information not understood",
            Self::BadFrame => "a frame in the wrong place",
            Self::NoBounds => "unknown stack",
            Self::Busy => "unwinder busy",
        }
    }
}

/// Of so many callers that were not expected, the function of the last is one with many callers.
const SURPRISES: u32 = 16;
/// Of so many callers of such functions, the last is expected again.
const LOOKS: u32 = 4096;

/// Where a walk is: in the frame of `key`, whose callee has returned.
struct At {
    key: u64,
    sp: u64,
    bp: u64,
    /// Where the frame pointer was read; 0: it is that of the start.
    bp_at: u64,
    limit: u64,
}

/// A walk that goes on.
pub(crate) struct Walk<'w, H, T> {
    pub(crate) unwinder: &'w Unwinder,
    pub(crate) host: &'w H,
    pub(crate) bounds: &'w mut Bounds,
    pub(crate) trace: &'w mut T,
}

impl<H: Host, T: Trace> Walk<'_, H, T> {
    #[inline(always)]
    pub(crate) fn run(
        &mut self,
        start: Start,
        method: Method,
        out: &mut [u64],
        len: &mut usize,
    ) -> End {
        let Some(limit) = self.bounds.end(start.sp).or_else(|| self.new_stack(start.sp)) else {
            return End::NoBounds;
        };
        let mut at = At { key: start.pc | EXACT, sp: start.sp, bp: start.bp, bp_at: 0, limit };
        if start.entry {
            let Some(address) = at.word(at.sp, self.trace) else { return End::BadFrame };
            at.key = address;
            at.sp += 8;
        } else if let Err(end) =
            self.find(at.key).and_then(|(known, _)| self.step(known.rule, &mut at, len))
        {
            return end;
        }
        match method {
            Method::Tables => self.by_tables(&mut at, out, len),
            Method::FramePointers => self.by_pointers(&mut at, out, len),
        }
    }

    #[inline(always)]
    fn by_tables(&mut self, at: &mut At, out: &mut [u64], len: &mut usize) -> End {
        let (mut known, mut entry) = match self.find(at.key) {
            Ok(found) => found,
            Err(end) => return end,
        };
        loop {
            let Some(place) = out.get_mut(*len) else { return End::Deep };
            *place = known.frame;
            *len += 1;
            if let Err(end) = self.step(known.rule, at, len) {
                return end;
            }
            (known, entry) = match self.caller(entry, at.key) {
                Ok(found) => found,
                Err(end) => return end,
            };
        }
    }

    #[inline(always)]
    fn by_pointers(&mut self, at: &mut At, out: &mut [u64], len: &mut usize) -> End {
        let mut by_pointer = true;
        let (mut known, mut entry) = match self.find(at.key) {
            Ok(found) => found,
            Err(end) => return end,
        };
        loop {
            let Some(place) = out.get_mut(*len) else { return End::Deep };
            *place = known.frame;
            *len += 1;
            // Behind the first frame without a pointer, registers may hold anything that looks like
            // one: the tables decide, where there are any.
            let kind = known.rule.kind();
            // What a signal has interrupted is not what the handler's pointer leads to: that leaves
            // one frame out.
            if (by_pointer || kind == NO_TABLE)
                && kind != OUTERMOST
                && kind != SIGNAL
                && let Some(caller) = self.follow(entry, at)
            {
                (known, entry) = caller;
                continue;
            }
            by_pointer = false;
            (known, entry) = match self.step(known.rule, at, len).and_then(|()| self.find(at.key)) {
                Ok(found) => found,
                Err(end) => return end,
            };
        }
    }

    #[inline(always)]
    fn find(&mut self, key: u64) -> Result<(Known, Option<&'static Entry>), End> {
        match self.unwinder.cache.find(key) {
            Some((known, entry)) => Ok((known, Some(entry))),
            None => self.known(key),
        }
    }

    /// The same for the caller of the frame with this entry.
    #[inline(always)]
    fn caller(
        &mut self,
        callee: Option<&'static Entry>,
        key: u64,
    ) -> Result<(Known, Option<&'static Entry>), End> {
        let Some(callee) = callee else { return self.find(key) };
        match callee.expected() {
            Expected::Caller(caller) => match caller.known(key) {
                Some(known) => Ok((known, Some(caller))),
                None => self.surprise(callee, key),
            },
            Expected::Anyone => {
                self.bounds.looks = self.bounds.looks.wrapping_add(1);
                if self.bounds.looks.is_multiple_of(LOOKS) {
                    self.expect(callee, key)
                } else {
                    self.find(key)
                }
            }
            Expected::Nothing => self.expect(callee, key),
        }
    }

    /// A caller that was not expected. Entries are changed seldom: threads that come from different
    /// callers would write to one line all the time.
    fn surprise(
        &mut self,
        callee: &'static Entry,
        key: u64,
    ) -> Result<(Known, Option<&'static Entry>), End> {
        self.bounds.surprises = self.bounds.surprises.wrapping_add(1);
        if self.bounds.surprises.is_multiple_of(SURPRISES) {
            callee.expect_anyone();
        }
        self.find(key)
    }

    /// Looks for a caller, and expects it from now on.
    #[cold]
    #[inline(never)]
    fn expect(
        &mut self,
        callee: &'static Entry,
        key: u64,
    ) -> Result<(Known, Option<&'static Entry>), End> {
        let found = self.find(key)?;
        if let Some(caller) = found.1 {
            callee.expect(caller);
        }
        Ok(found)
    }

    /// One frame by its rule. If it is not to be seen, it is taken back from the frames that were
    /// found.
    #[inline(always)]
    fn step(&mut self, rule: Packed, at: &mut At, len: &mut usize) -> Result<(), End> {
        let kind = rule.kind();
        let (cfa, bp_at) = if kind <= BP {
            if kind == BP {
                at.uses_bp(self.trace);
            }
            let base = if kind == SP {
                at.sp
            } else {
                stay_a_branch();
                at.bp
            };
            let cfa = base.wrapping_add(rule.cfa());
            (cfa, cfa.wrapping_add(rule.bp()))
        } else if kind == ALIGNED {
            at.uses_bp(self.trace);
            let cfa = at.word(at.bp.wrapping_add(rule.cfa()), self.trace).ok_or(End::BadFrame)?;
            (cfa, at.bp.wrapping_add(rule.bp()))
        } else if kind == SIGNAL {
            // By value: what a function outside could reach would be kept in memory all the way.
            let (next, seen) = self.seldom(rule, At { ..*at });
            *len = len.saturating_sub(usize::from(!seen));
            let next = next?;
            (at.key, at.sp, at.bp, at.bp_at, at.limit) =
                (next.key, next.sp, next.bp, next.bp_at, next.limit);
            return Ok(());
        } else {
            return Err(match kind {
                OUTERMOST => End::Complete,
                NO_TABLE => End::NoTable,
                _ => End::Unsupported,
            });
        };
        let address = match at.word(cfa.wrapping_sub(8), self.trace) {
            Some(address) => address,
            // The frame pointer may lead to a frame on another stack, from which this one was
            // entered.
            None if kind != SP => {
                (at.sp, at.limit) = self.other_stack(cfa).ok_or(End::BadFrame)?;
                at.word(cfa.wrapping_sub(8), self.trace).ok_or(End::BadFrame)?
            }
            None => return Err(End::BadFrame),
        };
        if rule.saves_bp() {
            at.bp = at.word(bp_at, &mut NoTrace).ok_or(End::BadFrame)?;
            at.bp_at = bp_at;
        }
        at.sp = cfa;
        at.key = address;
        if address == 0 { Err(End::Complete) } else { Ok(()) }
    }

    /// One frame by its pointer, if that leads to another frame: that one.
    #[inline(always)]
    fn follow(
        &mut self,
        callee: Option<&'static Entry>,
        at: &mut At,
    ) -> Option<(Known, Option<&'static Entry>)> {
        at.uses_bp(self.trace);
        let bp = at.word(at.bp, &mut NoTrace)?;
        let address = at.word(at.bp.wrapping_add(8), self.trace).filter(|address| *address != 0)?;
        let (known, entry) = self.caller(callee, address).ok()?;
        let sp = at.bp.wrapping_add(16);
        // Code that nothing describes is believed if the chain goes on.
        if known.rule.kind() == NO_TABLE {
            self.trace.read(at.bp, bp);
            At { sp, ..*at }.word(bp, &mut NoTrace)?;
        }
        // Field by field: a copy of the whole would wait for each field to be written.
        at.key = address;
        at.sp = sp;
        at.bp_at = at.bp;
        at.bp = bp;
        Some((known, entry))
    }

    /// The next frame, behind a signal's or one that is not to be seen; and whether that one is.
    #[cold]
    #[inline(never)]
    fn seldom(&mut self, rule: Packed, mut at: At) -> (Result<At, End>, bool) {
        match rule.of_unseen() {
            Some(rule) => (self.step(rule, &mut at, &mut 0).map(|()| at), false),
            None => (self.interrupted(at), true),
        }
    }

    /// The frame that a signal has interrupted.
    fn interrupted(&mut self, at: At) -> Result<At, End> {
        let mut word =
            |offset| at.word(at.sp.wrapping_add(offset), self.trace).ok_or(End::BadFrame);
        let (pc, sp, bp) =
            (word(signal_frame::PC)?, word(signal_frame::SP)?, word(signal_frame::BP)?);
        // The handler may have had a stack of its own.
        let limit = self.bounds.end(sp).or_else(|| self.new_stack(sp)).ok_or(End::NoBounds)?;
        Ok(At { key: pc | EXACT, sp, bp, bp_at: at.sp.wrapping_add(signal_frame::BP), limit })
    }

    /// What is known of an address, learned if need be. A return address that was replaced by a
    /// probe is put right first.
    #[cold]
    #[inline(never)]
    fn known(&mut self, mut key: u64) -> Result<(Known, Option<&'static Entry>), End> {
        while key & EXACT == 0 {
            let trace = &mut *self.trace;
            let Some(original) =
                self.host.original(key, &mut |address, word| trace.read_of_host(address, word))
            else {
                break;
            };
            key = original;
        }
        if let Some((known, entry)) = self.unwinder.cache.find(key) {
            return Ok((known, Some(entry)));
        }
        let mut result = None;
        self.host.slowly(&mut || {
            result = self.unwinder.lock.with(|scratch| {
                let (known, keep) = study(scratch, key);
                if keep {
                    self.unwinder.cache.set(key, known);
                }
                known
            });
        });
        let known = result.ok_or(End::Busy)?;
        Ok((known, self.unwinder.cache.find(key).map(|(_, entry)| entry)))
    }

    /// The stack of a frame with that CFA, by its first and last address, where a walk is on
    /// another one: `__morestack`, and whoever else switches stacks and describes it.
    #[cold]
    #[inline(never)]
    fn other_stack(&mut self, cfa: u64) -> Option<(u64, u64)> {
        let word = cfa.wrapping_sub(8);
        if self.bounds.mapped(word).is_none() {
            self.new_stack(word)?;
        }
        let mapped = self.bounds.mapped(word)?;
        Some((mapped.start, mapped.end))
    }

    #[cold]
    #[inline(never)]
    fn new_stack(&mut self, sp: u64) -> Option<u64> {
        let mut found = None;
        if self.unwinder.lock.is_sealed() {
            found = self.host.own_stack().and_then(|range| Stack::own(range, sp));
        } else {
            self.host.slowly(&mut || {
                let find = |scratch: &mut Scratch| bounds::find(sp, &mut scratch.text);
                found = self.unwinder.lock.with(find).flatten()
            });
        }
        let stack = found?;
        let end = stack.range.end;
        self.bounds.add(stack);
        Some(end)
    }
}

impl Unwinder {
    /// Writes the callers of `start` into `out`, the nearest first: how many, and why no more.
    ///
    /// The frame of a caller is [`Module::tag`](crate::Module::tag) plus its return address in the
    /// module's file; the bare return address if it is in no module. Frames that a signal has
    /// interrupted have [`EXACT`] set.
    #[inline(always)]
    pub fn walk<H: Host>(
        &self,
        host: &H,
        start: Start,
        method: Method,
        bounds: &mut Bounds,
        out: &mut [u64],
    ) -> (usize, End) {
        self.walk_traced(host, start, method, bounds, out, &mut NoTrace)
    }

    /// [`Unwinder::walk`] that says what it reads.
    #[inline(always)]
    pub fn walk_traced<H: Host, T: Trace>(
        &self,
        host: &H,
        start: Start,
        method: Method,
        bounds: &mut Bounds,
        out: &mut [u64],
        trace: &mut T,
    ) -> (usize, End) {
        let mut len = 0;
        let mut walk = Walk { unwinder: self, host, bounds, trace };
        let end = walk.run(start, method, out, &mut len);
        (len, end)
    }
}

impl At {
    /// Most frame pointers are read for nothing: only those that are used decide anything.
    #[inline(always)]
    fn uses_bp(&self, trace: &mut impl Trace) {
        match self.bp_at {
            0 => trace.uses_start_bp(),
            at => trace.read(at, self.bp),
        }
    }

    /// A word of the stack in use.
    #[inline(always)]
    fn word(&self, address: u64, trace: &mut impl Trace) -> Option<u64> {
        // Also false for what is not aligned, and for addresses around the end of memory.
        if address < self.sp || address > self.limit - 8 || address & 7 != 0 {
            return None;
        }
        // SAFETY: between the stack pointer of a frame of this thread and the end of the mapping
        // that it is in. Volatile: other frames own the word.
        let word = unsafe { ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() };
        trace.read(address, word);
        Some(word)
    }
}

/// Keeps the compiler from choosing between two registers without a branch: the walk would wait for
/// the rule's kind, which a branch predicts.
#[inline(always)]
fn stay_a_branch() {
    // SAFETY: no instruction.
    unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) };
}
