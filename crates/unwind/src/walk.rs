//! From frame to frame.
#![allow(unsafe_code)]

use crate::bounds::{self, Bounds};
use crate::cache::{Cache, Entry, Expected, Known};
use crate::learn::{begins, learn, signal_frame};
use crate::module::Module;
use crate::rule::{ALIGNED, BP, NO_TABLE, OUTERMOST, Packed, Rule, SIGNAL, SP, Saved, UNSUPPORTED};
use crate::scratch::{Lock, Scratch};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Set in a frame, and in what the cache is asked for: the instruction at the address is meant, not the call in front of it.
pub const EXACT: u64 = 1 << 63;

/// What a walk needs of the program that it is in.
pub trait Host {
    /// The address that a return address stands for, if return probes have replaced it. `read` is to be told of each word that decides that: its address and contents.
    fn original(&self, address: u64, read: &mut dyn FnMut(u64, u64)) -> Option<u64>;

    /// Runs code that may use any register and call the C library, with signals blocked. Walks come here for each address that they see for the first time.
    fn slowly(&self, f: &mut dyn FnMut());
}

/// Is told of everything that decides how a walk goes: as long as the words in memory, the start and [`Unwinder::generation`] are the same, so is the stack. The frame pointer belongs to the start only if
/// it was used before another one was found in memory.
pub trait Trace {
    /// How the walk goes depends on `word` at `address`.
    fn read(&mut self, address: u64, word: u64);

    /// It depends on the frame pointer at the start.
    fn uses_start_bp(&mut self);
}

/// Does not care.
#[derive(Debug)]
pub struct NoTrace;

impl Trace for NoTrace {
    #[inline(always)]
    fn read(&mut self, _: u64, _: u64) {}

    #[inline(always)]
    fn uses_start_bp(&mut self) {}
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
    generation: AtomicU64,
}

impl core::fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Unwinder").field("addresses", &self.cache.len()).finish_non_exhaustive()
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

impl Unwinder {
    /// An unwinder that knows of no module. `None`: no memory.
    pub fn new() -> Option<Self> {
        Some(Self { cache: Cache::new()?, lock: Lock::new(), generation: AtomicU64::new(1) })
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
                // Relaxed: no thread is in code that goes or comes.
                self.generation.fetch_add(1, Ordering::Relaxed);
                self.cache.forget(|key| changed.iter().any(|r| r.contains(&(key & !EXACT))));
            }
        });
    }

    /// Changes when what is loaded does.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
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

    /// Whether the first instruction of a function is reached by a call, so that its return address is on top of the stack ([`Start::entry`]). A program's first function is not, nor is what signal handlers
    /// return to. True where nothing says otherwise.
    ///
    /// # Context
    /// As [`Unwinder::set_modules`].
    pub fn is_called(&self, pc: u64) -> bool {
        let rule = self.lock.with(|scratch| study(scratch, pc | EXACT).0.rule);
        rule.is_none_or(|rule| matches!(rule.kind(), NO_TABLE | UNSUPPORTED) || rule == Packed::new(Rule::Sp { cfa: 8, bp: Saved::Kept }))
    }

    /// Writes the callers of `start` into `out`, the nearest first: how many, and why no more.
    ///
    /// The frame of a caller is [`Module::tag`] plus its return address in the module's file; the bare return address if it is in no module. Frames that a signal has interrupted have [`EXACT`] set.
    #[inline(always)]
    pub fn walk<H: Host>(&self, host: &H, start: Start, method: Method, bounds: &mut Bounds, out: &mut [u64]) -> (usize, End) {
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

/// A walk that goes on.
struct Walk<'w, H, T> {
    unwinder: &'w Unwinder,
    host: &'w H,
    bounds: &'w mut Bounds,
    trace: &'w mut T,
}

impl<H: Host, T: Trace> Walk<'_, H, T> {
    #[inline(always)]
    fn run(&mut self, start: Start, method: Method, out: &mut [u64], len: &mut usize) -> End {
        let Some(limit) = self.bounds.end(start.sp).or_else(|| self.new_stack(start.sp)) else { return End::NoBounds };
        let mut at = At { key: start.pc | EXACT, sp: start.sp, bp: start.bp, bp_at: 0, limit };
        if start.entry {
            let Some(address) = at.word(at.sp, self.trace) else { return End::BadFrame };
            at.key = address;
            at.sp += 8;
        } else if let Err(end) = self.find(at.key).and_then(|(known, _)| self.step(known.rule, &mut at, len)) {
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
            // Behind the first frame without a pointer, registers may hold anything that looks like one: the tables decide, where there are any.
            let kind = known.rule.kind();
            // What a signal has interrupted is not what the handler's pointer leads to: that leaves one frame out.
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
    fn caller(&mut self, callee: Option<&'static Entry>, key: u64) -> Result<(Known, Option<&'static Entry>), End> {
        let Some(callee) = callee else { return self.find(key) };
        match callee.expected() {
            Expected::Caller(caller) => match caller.known(key) {
                Some(known) => Ok((known, Some(caller))),
                None => self.surprise(callee, key),
            },
            Expected::Anyone => {
                self.bounds.looks = self.bounds.looks.wrapping_add(1);
                if self.bounds.looks.is_multiple_of(LOOKS) { self.expect(callee, key) } else { self.find(key) }
            }
            Expected::Nothing => self.expect(callee, key),
        }
    }

    /// A caller that was not expected. Entries are changed seldom: threads that come from different callers would write to one line all the time.
    fn surprise(&mut self, callee: &'static Entry, key: u64) -> Result<(Known, Option<&'static Entry>), End> {
        self.bounds.surprises = self.bounds.surprises.wrapping_add(1);
        if self.bounds.surprises.is_multiple_of(SURPRISES) {
            callee.expect_anyone();
        }
        self.find(key)
    }

    /// Looks for a caller, and expects it from now on.
    #[cold]
    #[inline(never)]
    fn expect(&mut self, callee: &'static Entry, key: u64) -> Result<(Known, Option<&'static Entry>), End> {
        let found = self.find(key)?;
        if let Some(caller) = found.1 {
            callee.expect(caller);
        }
        Ok(found)
    }

    /// One frame by its rule. If it is not to be seen, it is taken back from the frames that were found.
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
            (at.key, at.sp, at.bp, at.bp_at, at.limit) = (next.key, next.sp, next.bp, next.bp_at, next.limit);
            return Ok(());
        } else {
            return Err(match kind {
                OUTERMOST => End::Complete,
                NO_TABLE => End::NoTable,
                _ => End::Unsupported,
            });
        };
        let address = at.word(cfa.wrapping_sub(8), self.trace).ok_or(End::BadFrame)?;
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
    fn follow(&mut self, callee: Option<&'static Entry>, at: &mut At) -> Option<(Known, Option<&'static Entry>)> {
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
        let mut word = |offset| at.word(at.sp.wrapping_add(offset), self.trace).ok_or(End::BadFrame);
        let (pc, sp, bp) = (word(signal_frame::PC)?, word(signal_frame::SP)?, word(signal_frame::BP)?);
        // The handler may have had a stack of its own.
        let limit = self.bounds.end(sp).or_else(|| self.new_stack(sp)).ok_or(End::NoBounds)?;
        Ok(At { key: pc | EXACT, sp, bp, bp_at: at.sp.wrapping_add(signal_frame::BP), limit })
    }

    /// What is known of an address, learned if need be. A return address that was replaced by a probe is put right first.
    #[cold]
    #[inline(never)]
    fn known(&mut self, mut key: u64) -> Result<(Known, Option<&'static Entry>), End> {
        while key & EXACT == 0 {
            let trace = &mut *self.trace;
            let Some(original) = self.host.original(key, &mut |address, word| trace.read(address, word)) else { break };
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

    #[cold]
    #[inline(never)]
    fn new_stack(&mut self, sp: u64) -> Option<u64> {
        let mut found = None;
        self.host.slowly(&mut || found = self.unwinder.lock.with(|scratch| bounds::find(sp, &mut scratch.text)).flatten());
        let stack = found?;
        let end = stack.end;
        self.bounds.add(stack);
        Some(end)
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
        // SAFETY: between the stack pointer of a frame of this thread and the end of the mapping that it is in. Volatile: other frames own the word.
        let word = unsafe { ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() };
        trace.read(address, word);
        Some(word)
    }
}

/// Keeps the compiler from choosing between two registers without a branch: the walk would wait for the rule's kind, which a branch predicts.
#[inline(always)]
fn stay_a_branch() {
    // SAFETY: no instruction.
    unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) };
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
        // A stack that was made by hand (`makecontext`) begins with the address of a function: no call is in front of that.
        Rule::NoTable if pc != address && begins(module, address) => Rule::Outermost,
        rule => rule,
    };
    let rule = if module.unseen { Packed::new(rule).unseen() } else { Packed::new(rule) };
    (Known { rule, frame: module.frame(address) | key & EXACT }, true)
}
