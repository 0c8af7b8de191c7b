//! The unwinder: what is loaded, and what was learned of it.

use crate::cache::{Cache, Known};
use crate::host::EXACT;
use crate::learn::{begins, learn};
use crate::module::Module;
use crate::rule::{NO_TABLE, Packed, Rule, Saved, UNSUPPORTED};
use crate::scratch::{Lock, Scratch};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Finds call stacks of the threads of this process.
///
/// # Context
/// [`Unwinder::walk`] is signal-safe, allocates nothing, and makes system calls only for addresses
/// and stacks that it has not seen before ([`Host::slowly`](crate::Host::slowly)).
pub struct Unwinder {
    pub(crate) cache: Cache,
    pub(crate) lock: Lock,
    generation: AtomicU64,
}

impl core::fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Unwinder").field("addresses", &self.cache.len()).finish_non_exhaustive()
    }
}

impl Unwinder {
    /// An unwinder that knows of no module. `None`: no memory.
    pub fn new() -> Option<Self> {
        Some(Self { cache: Cache::new()?, lock: Lock::new(), generation: AtomicU64::new(1) })
    }

    /// Says what is loaded. What was learned of modules that are not there any more, or are new, is
    /// forgotten.
    ///
    /// # Context
    /// Allocates; waits for threads that learn something just now. With signals blocked, and not in
    /// a walk.
    pub fn set_modules(&self, mut modules: Vec<Module>) {
        sys::sort::by_key(&mut modules, |m| m.range.start);
        self.lock.with(|scratch| {
            let old = core::mem::replace(&mut scratch.modules, modules);
            let only_in = |some: &[Module], others: &[Module]| -> Vec<_> {
                some.iter().filter(|m| !others.contains(m)).map(|m| m.range.clone()).collect()
            };
            let changed =
                [only_in(&old, &scratch.modules), only_in(&scratch.modules, &old)].concat();
            if !changed.is_empty() {
                // Relaxed: no thread is in code that goes or comes.
                self.generation.fetch_add(1, Ordering::Relaxed);
                self.cache.forget(|key| changed.iter().any(|r| r.contains(&(key & !EXACT))));
            }
        });
    }

    /// No system call is made from now on: the process is about to lose them. A stack that was not
    /// seen before is known if it is [`Host::own_stack`](crate::Host::own_stack); else a walk ends
    /// there.
    pub fn seal(&self) {
        self.lock.seal();
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
        self.lock
            .with(|scratch| module(&scratch.modules, pc).map_or(pc, |m| m.frame(pc)))
            .unwrap_or(pc)
            | EXACT
    }

    /// Whether the first instruction of a function is reached by a call, so that its return address
    /// is on top of the stack ([`Start::entry`](crate::Start::entry)). A program's first function
    /// is not, nor is what signal handlers return to. True where nothing says otherwise.
    ///
    /// # Context
    /// As [`Unwinder::set_modules`].
    pub fn is_called(&self, pc: u64) -> bool {
        let rule = self.lock.with(|scratch| study(scratch, pc | EXACT).0.rule);
        rule.is_none_or(|rule| {
            matches!(rule.kind(), NO_TABLE | UNSUPPORTED)
                || rule == Packed::new(Rule::Sp { cfa: 8, bp: Saved::Kept })
        })
    }
}

/// The module with this instruction; `modules` are sorted by address.
fn module(modules: &[Module], pc: u64) -> Option<&Module> {
    let after = modules.partition_point(|m| m.range.start <= pc);
    modules[..after].last().filter(|m| m.range.contains(&pc))
}

/// What there is to know of an address, and whether it is worth keeping: what nothing describes is
/// code that may be replaced.
pub(crate) fn study(scratch: &mut Scratch, key: u64) -> (Known, bool) {
    let address = key & !EXACT;
    // The call in front of a return address may be the last instruction of its function.
    let pc = if key & EXACT == 0 { address.wrapping_sub(1) } else { address };
    let Some(module) = module(&scratch.modules, pc) else {
        return (Known { rule: Packed::new(Rule::NoTable), frame: key }, false);
    };
    let rule = match learn(module, pc, &mut scratch.context) {
        Rule::NoTable if module.begins => Rule::Outermost,
        // A stack that was made by hand (`makecontext`) begins with the address of a function: no
        // call is in front of that.
        Rule::NoTable if pc != address && begins(module, address) => Rule::Outermost,
        rule => rule,
    };
    let rule = if module.unseen { Packed::new(rule).unseen() } else { Packed::new(rule) };
    (Known { rule, frame: module.frame(address) | key & EXACT }, true)
}
