//! From frame to frame.
#![allow(unsafe_code)]

use crate::bounds::{self, Bounds};
use crate::cache::{Cache, Known};
use crate::learn::{learn, signal_frame};
use crate::module::Module;
use crate::rule::{ALIGNED, BP, NO_TABLE, OUTERMOST, Packed, Rule, SIGNAL, SP};
use crate::scratch::{Lock, Scratch};
use core::ptr;

/// Set in a frame, and in what the cache is asked for: the instruction at the address is meant, not the call in front of it.
pub const EXACT: u64 = 1 << 63;

/// What a walk needs of the program that it is in.
pub trait Host {
    /// The address that a return address stands for, if return probes have replaced it.
    fn original(&self, address: u64) -> Option<u64>;

    /// Runs code that may use any register and call the C library, with signals blocked. Walks come here for each address that they see for the first time.
    fn slowly(&self, f: &mut dyn FnMut());
}

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
    /// Whether it is a function's first instruction: then its return address is on top of the stack.
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
    /// The stack was not found in `/proc/self/maps`.
    NoBounds = 5,
    /// The lock of slow paths was not to be had.
    Busy = 6,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Complete, Self::Deep, Self::NoTable, Self::Unsupported, Self::BadFrame, Self::NoBounds, Self::Busy];

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

/// Finds call stacks of the threads of this process.
///
/// # Context
/// [`Unwinder::walk`] is signal-safe, allocates nothing, and makes system calls only for addresses and stacks that it has not seen before ([`Host::slowly`]).
pub struct Unwinder {
    cache: Cache,
    lock: Lock,
}

impl core::fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Unwinder").field("addresses", &self.cache.len()).finish_non_exhaustive()
    }
}

/// Where a walk is: in the frame of `key`, whose callee has returned.
struct At {
    key: u64,
    sp: u64,
    bp: u64,
    limit: u64,
}

impl Unwinder {
    /// An unwinder that knows of no module. `None`: no memory.
    pub fn new() -> Option<Self> {
        Some(Self { cache: Cache::new()?, lock: Lock::new() })
    }

    /// Says what is loaded. What was learned of modules that are not there any more, or are new, is forgotten.
    ///
    /// # Context
    /// Allocates; waits for threads that learn something just now. With signals blocked, and not in a walk.
    pub fn set_modules(&self, mut modules: Vec<Module>) {
        modules.sort_unstable_by_key(|m| m.range.start);
        self.lock.with(|scratch| {
            let old = core::mem::replace(&mut scratch.modules, modules);
            let only_in = |some: &[Module], others: &[Module]| -> Vec<_> {
                some.iter().filter(|m| !others.contains(m)).map(|m| m.range.clone()).collect()
            };
            let changed = [only_in(&old, &scratch.modules), only_in(&scratch.modules, &old)].concat();
            if !changed.is_empty() {
                self.cache.forget(|key| changed.iter().any(|r| r.contains(&(key & !EXACT))));
            }
        });
    }

    /// In a fork child, before its first walk.
    pub fn forked(&self) {
        self.lock.forked();
    }

    /// Bytes that are used for what was learned.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Addresses that were learned.
    pub fn addresses(&self) -> usize {
        self.cache.len()
    }

    /// The address of an instruction as stacks show it, with [`EXACT`].
    ///
    /// # Context
    /// As [`Unwinder::set_modules`].
    pub fn frame(&self, pc: u64) -> u64 {
        self.lock.with(|scratch| module(scratch, pc).map_or(pc, |m| m.frame(pc))).unwrap_or(pc) | EXACT
    }

    /// Writes the callers of `start` into `out`, the nearest first: how many, and why no more.
    ///
    /// The frame of a caller is [`Module::tag`] plus its return address in the module's file; the bare return address if it is in no module. Frames that a signal has interrupted have [`EXACT`] set.
    #[inline(always)]
    pub fn walk<H: Host>(&self, host: &H, start: Start, method: Method, bounds: &mut Bounds, out: &mut [u64]) -> (usize, End) {
        let mut len = 0;
        let end = self.run(host, start, method, bounds, out, &mut len);
        (len, end)
    }

    #[inline(always)]
    fn run<H: Host>(&self, host: &H, start: Start, method: Method, bounds: &mut Bounds, out: &mut [u64], len: &mut usize) -> End {
        let Some(limit) = bounds.end(start.sp).or_else(|| self.new_stack(host, bounds, start.sp)) else { return End::NoBounds };
        let mut at = At { key: start.pc | EXACT, sp: start.sp, bp: start.bp, limit };
        if start.entry {
            let Some(address) = at.word(at.sp) else { return End::BadFrame };
            at.key = address;
            at.sp += 8;
        } else if let Err(end) = self.known(host, &mut at).and_then(|known| self.step(host, known.rule, &mut at, bounds)) {
            return end;
        }
        let mut by_pointer = method == Method::FramePointers;
        loop {
            let known = match self.cache.find(at.key) {
                Some(known) => known,
                None => match self.known(host, &mut at) {
                    Ok(known) => known,
                    Err(end) => return end,
                },
            };
            let Some(place) = out.get_mut(*len) else { return End::Deep };
            *place = known.frame;
            *len += 1;
            if method == Method::FramePointers {
                // Behind the first frame without a pointer, registers may hold anything that looks like one: the tables decide, where there are any.
                if (by_pointer || known.rule.kind() == NO_TABLE) && known.rule.kind() != OUTERMOST && self.follow(host, &mut at) {
                    continue;
                }
                by_pointer = false;
            }
            if let Err(end) = self.step(host, known.rule, &mut at, bounds) {
                return end;
            }
        }
    }

    /// One frame by its rule.
    #[inline(always)]
    fn step<H: Host>(&self, host: &H, rule: Packed, at: &mut At, bounds: &mut Bounds) -> Result<(), End> {
        let kind = rule.kind();
        let (cfa, bp_at) = if kind <= BP {
            let cfa = (if kind == SP { at.sp } else { at.bp }).wrapping_add(rule.cfa());
            (cfa, cfa.wrapping_add(rule.bp()))
        } else if kind == ALIGNED {
            let cfa = at.word(at.bp.wrapping_add(rule.cfa())).ok_or(End::BadFrame)?;
            (cfa, at.bp.wrapping_add(rule.bp()))
        } else if kind == SIGNAL {
            return self.interrupted(host, at, bounds);
        } else {
            return Err(match kind {
                OUTERMOST => End::Complete,
                NO_TABLE => End::NoTable,
                _ => End::Unsupported,
            });
        };
        let address = at.word(cfa.wrapping_sub(8)).ok_or(End::BadFrame)?;
        if rule.saves_bp() {
            at.bp = at.word(bp_at).ok_or(End::BadFrame)?;
        }
        at.sp = cfa;
        at.key = address;
        if address == 0 { Err(End::Complete) } else { Ok(()) }
    }

    /// One frame by its pointer, if that leads to another frame.
    #[inline(always)]
    fn follow<H: Host>(&self, host: &H, at: &mut At) -> bool {
        let (Some(bp), Some(address)) = (at.word(at.bp), at.word(at.bp.wrapping_add(8))) else { return false };
        if address == 0 {
            return false;
        }
        let mut next = At { key: address, sp: at.bp.wrapping_add(16), bp, limit: at.limit };
        let Ok(known) = self.cache.find(address).map_or_else(|| self.known(host, &mut next), Ok) else { return false };
        // Code that nothing describes is believed if the chain goes on.
        if known.rule.kind() == NO_TABLE && next.word(bp).is_none() {
            return false;
        }
        *at = next;
        true
    }

    /// The frame that a signal has interrupted.
    #[cold]
    #[inline(never)]
    fn interrupted<H: Host>(&self, host: &H, at: &mut At, bounds: &mut Bounds) -> Result<(), End> {
        let word = |offset| at.word(at.sp.wrapping_add(offset)).ok_or(End::BadFrame);
        let (pc, sp, bp) = (word(signal_frame::PC)?, word(signal_frame::SP)?, word(signal_frame::BP)?);
        // The handler may have had a stack of its own.
        let limit = bounds.end(sp).or_else(|| self.new_stack(host, bounds, sp)).ok_or(End::NoBounds)?;
        *at = At { key: pc | EXACT, sp, bp, limit };
        Ok(())
    }

    /// What is known of an address, learned if need be. A return address that was replaced by a probe is put right first.
    #[cold]
    #[inline(never)]
    fn known<H: Host>(&self, host: &H, at: &mut At) -> Result<Known, End> {
        while at.key & EXACT == 0 {
            let Some(original) = host.original(at.key) else { break };
            at.key = original;
        }
        if let Some(known) = self.cache.find(at.key) {
            return Ok(known);
        }
        let key = at.key;
        let mut result = None;
        host.slowly(&mut || {
            result = self.lock.with(|scratch| {
                let (known, keep) = study(scratch, key);
                if keep {
                    self.cache.set(key, known);
                }
                known
            });
        });
        result.ok_or(End::Busy)
    }

    #[cold]
    #[inline(never)]
    fn new_stack<H: Host>(&self, host: &H, bounds: &mut Bounds, sp: u64) -> Option<u64> {
        let mut found = None;
        host.slowly(&mut || found = self.lock.with(|scratch| bounds::find(sp, &mut scratch.text)).flatten());
        let stack = found?;
        let end = stack.end;
        bounds.add(stack);
        Some(end)
    }
}

impl At {
    /// A word of the stack in use.
    #[inline(always)]
    fn word(&self, address: u64) -> Option<u64> {
        // Also false for what is not aligned, and for addresses around the end of memory.
        if address < self.sp || address > self.limit - 8 || address & 7 != 0 {
            return None;
        }
        // SAFETY: between the stack pointer of a frame of this thread and the end of the mapping that it is in. Volatile: other frames own the word.
        Some(unsafe { ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() })
    }
}

fn module(scratch: &Scratch, pc: u64) -> Option<&Module> {
    let after = scratch.modules.partition_point(|m| m.range.start <= pc);
    scratch.modules[..after].last().filter(|m| m.range.contains(&pc))
}

/// What there is to know of an address, and whether it is worth keeping: what nothing describes is code that may be replaced.
fn study(scratch: &mut Scratch, key: u64) -> (Known, bool) {
    let address = key & !EXACT;
    // The call in front of a return address may be the last instruction of its function.
    let pc = if key & EXACT == 0 { address.wrapping_sub(1) } else { address };
    let after = scratch.modules.partition_point(|m| m.range.start <= pc);
    let Some(module) = scratch.modules[..after].last().filter(|m| m.range.contains(&pc)) else {
        return (Known { rule: Packed::new(Rule::NoTable), frame: key }, false);
    };
    let rule = match learn(module, pc, &mut scratch.context) {
        Rule::NoTable if module.begins => Rule::Outermost,
        rule => rule,
    };
    (Known { rule: Packed::new(rule), frame: module.frame(address) | key & EXACT }, true)
}
