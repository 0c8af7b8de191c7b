//! The default: per-CPU lists without a locked instruction, in front of bags that everybody reaches.
//!
//! # Where a free object is
//! - In the private list of one CPU: pushed and popped there by restartable sequences, a few plain instructions.
//! - In a bag ([`Bags`]): pushed and popped by one compare-and-swap. All objects are there at first; a push comes here when the private list is at its limit, or when the thread cannot run
//!   sequences.
//!
//! An object goes from a list or bag to an owner and back in one instruction. Nothing moves from list to bag or the reverse while nobody owns it, so there is no moment in which a preempted
//! thread hides a free object. That is what makes `None` exact without waiting.
//!
//! # The last resort
//! A pop that finds its private list and all bags empty, but another CPU's private list not, *visits*: it closes the gate (no sequence runs), waits for none, takes one object by compare-and-swap,
//! and opens the gate. Several visits can overlap; while one lasts everybody else uses the bags. At most half of the objects (or one per CPU) are in private lists, so that this is rare.
//!
//! # Closing
//! The gate is closed for ever, so every later operation takes the slow path, which looks at `closed`.
#![allow(unsafe_code)]

mod bags;
mod lanes;

use crate::BuildError;
use crate::list::{FreeList, Pushed, Taken, sealed::Sealed};
use crate::lists::flag_array::FlagArray;
use crate::plan::{Plan, Spread};
use bags::Bags;
use lanes::{FIRST, Lanes};
use percpu::fork;
use percpu::rseq::lifo::{Lifo, Miss, OUT, Word};
use percpu::rseq::{self, Gate, Refused};
use percpu::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The longest private list.
const MAX_PRIVATE: u32 = 128;

/// Per-CPU LIFO lists on restartable sequences (Linux `rseq(2)`), as in tcmalloc and librseq, over shared bags. Where there are no restartable sequences it is a [`FlagArray`].
///
/// # Context
/// Pop and push are signal-safe, lock-free and never allocate. They make no system call, with two exceptions: a thread's first operation where the C library does not register threads for
/// rseq (one call), and a pop that finds free objects nowhere but in another CPU's private list (`membarrier`: 0.4 µs, 9 µs with running siblings;
/// [`Builder::visits`](crate::Builder::visits) forbids it).
///
/// # Fork
/// A child's copy of the pool is right and independent. If another thread of the parent was visiting at that moment, the child's first slow operation opens the gate again; a pop that
/// runs in the child at that very moment may miss what lies in private lists. Objects that the parent's other threads held are out for ever in the child.
#[derive(Debug)]
pub struct RseqLifo {
    /// A view of `lanes`. Its entries are object numbers + [`FIRST`].
    lifo: Lifo<'static>,
    /// Does everything, if it is there.
    fallback: Option<FlagArray>,
    shared: Shared,
    /// Dropped last, and `lifo` is not used in `Drop`.
    lanes: Lanes,
}

/// What only the slow paths use.
#[derive(Debug)]
struct Shared {
    bags: Bags,
    closed: AtomicBool,
    /// The fork generation whose visitors the gate counts; with [`RESETTING`] while a child drops the parent's.
    epoch: AtomicU64,
    visits: bool,
    spread: Spread,
}

const RESETTING: u64 = 1 << 63;

/// What a look at all lists and bags found.
#[derive(Debug)]
enum Found {
    Entry {
        entry: u32,
        stolen: bool,
    },
    /// Some private list has entries.
    Private,
    /// At one moment there was nothing.
    Nothing,
    /// Something was pushed meanwhile.
    Changed,
}

impl Sealed for RseqLifo {}

impl FreeList for RseqLifo {
    const NAME: &'static str = "per-CPU rseq LIFO (default)";
    const CLOSES_ITSELF: bool = true;

    fn new(plan: &Plan) -> Result<Self, BuildError> {
        let use_rseq = plan.rseq && rseq::available();
        let fallback = if use_rseq { None } else { Some(FlagArray::new(plan)?) };
        // With a fallback the private lists and the bags stay without objects.
        let entries = if use_rseq { plan.capacity } else { 0 };
        let lanes = Lanes::new(entries as usize)?;
        // SAFETY: `lanes` and the view are moved into one value, whose drop does not use the view.
        let lifo = unsafe { lanes.view((plan.capacity / (2 * plan.slots)).clamp(1, MAX_PRIVATE)) };
        // SAFETY: used within this function, in which `lanes` lives.
        let (_, links) = unsafe { lanes.parts() };
        let shared = Shared {
            bags: Bags::new(&Plan { capacity: entries, ..*plan }, links)?,
            closed: AtomicBool::new(false),
            epoch: AtomicU64::new(fork::generation()),
            visits: plan.visits,
            spread: Spread::new(plan),
        };
        Ok(Self { lifo, fallback, shared, lanes })
    }

    #[inline(always)]
    fn is_fast(&self) -> bool {
        self.fallback.is_none()
    }

    #[inline(always)]
    fn pop_fast(&self) -> Option<(u32, u32)> {
        self.lifo.try_pop().map(|(entry, slot)| (entry - FIRST, slot))
    }

    #[inline(always)]
    fn push_fast(&self, index: u32) -> Option<u32> {
        self.lifo.try_push(index + FIRST)
    }

    #[inline(always)]
    fn pop(&self) -> Option<Taken> {
        match &self.fallback {
            Some(flags) => flags.pop(),
            None => self.pop_private_first(),
        }
    }

    #[inline(always)]
    fn push(&self, index: u32) -> Pushed {
        match &self.fallback {
            Some(flags) => flags.push(index),
            None => self.push_private_first(index),
        }
    }

    // A link says who is out in place of what lies below: it is the line that the push writes anyway.
    #[inline(always)]
    fn mark_out(&self, index: u32, slot: u32) {
        self.link(index).store(OUT | u64::from(slot), Ordering::Relaxed);
    }

    #[inline(always)]
    fn popped_on(&self, index: u32) -> Option<u32> {
        let link = self.link(index).load(Ordering::Relaxed);
        (link & OUT != 0).then_some(link as u32)
    }

    fn close(&self) {
        if let Some(flags) = &self.fallback {
            return flags.close();
        }
        // SeqCst pairs with the load at the end of the slow pushes: either the drain that follows sees the object, or the push sees this.
        self.shared.closed.store(true, Ordering::SeqCst);
        // Never opened again. Its fence makes every push that a sequence committed visible to the drain.
        self.gate().close();
    }

    fn drain(&self) -> Option<u32> {
        if let Some(flags) = &self.fallback {
            return flags.drain();
        }
        match self.shared.bags.pop(0, self.links()) {
            Ok((entry, _)) => Some(entry - FIRST),
            Err(_) => self.steal(0).map(|entry| entry - FIRST),
        }
    }
}

impl RseqLifo {
    #[inline(never)]
    fn pop_private_first(&self) -> Option<Taken> {
        match self.lifo.pop() {
            Ok((entry, slot)) => Some(Taken { index: entry - FIRST, slot, stolen: false }),
            Err(miss) => self.pop_slow(miss),
        }
    }

    #[inline(never)]
    fn push_private_first(&self, index: u32) -> Pushed {
        match self.lifo.push(index + FIRST) {
            Ok(slot) => Pushed { slot, closed: false },
            Err(miss) => self.push_slow(index, miss),
        }
    }

    #[cold]
    #[inline(never)]
    fn pop_slow(&self, miss: Miss) -> Option<Taken> {
        let slot = match miss {
            Miss::Empty { cpu } | Miss::Full { cpu } => cpu,
            Miss::Refused(why) => {
                if self.can_run_now(why)
                    && let Ok((entry, slot)) = self.lifo.pop()
                {
                    return Some(Taken { index: entry - FIRST, slot, stolen: false });
                }
                self.shared.spread.here()
            }
        };
        loop {
            if self.shared.closed.load(Ordering::SeqCst) {
                return None;
            }
            let entry = match self.look(slot) {
                Found::Entry { entry, stolen } => return Some(Taken { index: entry - FIRST, slot, stolen }),
                Found::Nothing => return None,
                Found::Changed => None,
                Found::Private if !self.may_visit() => return None,
                Found::Private => self.visit(slot),
            };
            if let Some(entry) = entry {
                return Some(Taken { index: entry - FIRST, slot, stolen: true });
            }
            // Others pushed or popped meanwhile, or this would have ended: lock-free.
        }
    }

    #[cold]
    #[inline(never)]
    fn push_slow(&self, index: u32, miss: Miss) -> Pushed {
        let slot = match miss {
            Miss::Empty { cpu } | Miss::Full { cpu } => cpu,
            Miss::Refused(why) => {
                if self.can_run_now(why)
                    && let Ok(slot) = self.lifo.push(index + FIRST)
                {
                    return Pushed { slot, closed: false };
                }
                self.shared.spread.here()
            }
        };
        self.shared.bags.push(slot, self.links(), index + FIRST);
        // SeqCst pairs with `close`.
        Pushed { slot, closed: self.shared.closed.load(Ordering::SeqCst) }
    }

    /// Takes from a bag, or says what there is. The bags are looked at before and after the private lists' first reading, the lists once more at the end: see
    /// `until_empty_twice` for why two equal readings mean "empty in between"; the moment is just before the second look at the bags.
    fn look(&self, slot: u32) -> Found {
        let bags = || self.shared.bags.pop(slot, self.links());
        let before = match bags() {
            Ok((entry, stolen)) => return Found::Entry { entry, stolen },
            Err(versions) => versions,
        };
        self.look_around(0, &mut || match bags() {
            Ok((entry, stolen)) => Found::Entry { entry, stolen },
            Err(versions) if versions == before => Found::Nothing,
            Err(_) => Found::Changed,
        })
    }

    /// Reads the private lists from `first` on, calls `between`, and reads them again. The first readings are kept on the stack, some per call.
    fn look_around(&self, first: usize, between: &mut dyn FnMut() -> Found) -> Found {
        const AT_ONCE: usize = 32;
        let slots = self.gate().slots();
        if first >= slots {
            return between();
        }
        let range = first..slots.min(first + AT_ONCE);
        let mut words: [Option<Word>; AT_ONCE] = [None; AT_ONCE];
        for (slot, kept) in range.clone().zip(&mut words) {
            let word = self.lifo.word(slot);
            if !word.is_empty() {
                return Found::Private;
            }
            *kept = Some(word);
        }
        let found = self.look_around(range.end, between);
        let changed = || range.zip(&words).any(|(slot, kept)| *kept != Some(self.lifo.word(slot)));
        if matches!(found, Found::Nothing) && changed() { Found::Changed } else { found }
    }

    /// Takes one entry out of another CPU's private list.
    #[cold]
    fn visit(&self, slot: u32) -> Option<u32> {
        self.gate().close();
        let entry = self.steal(slot as usize);
        self.gate().open();
        entry
    }

    /// The gate is closed.
    fn steal(&self, from: usize) -> Option<u32> {
        let slots = self.gate().slots();
        (0..slots).find_map(|distance| self.lifo.steal((from + distance) % slots, 1)).map(|chain| chain.head)
    }

    /// Whether a refused sequence is worth another try.
    fn can_run_now(&self, why: Refused) -> bool {
        match why {
            Refused::Unregistered => rseq::register_thread(),
            Refused::Closed => self.forget_visitors_of_parent(),
        }
    }

    fn may_visit(&self) -> bool {
        self.shared.visits && (self.is_current() || self.forget_visitors_of_parent())
    }

    fn is_current(&self) -> bool {
        // Acquire pairs with the Release in `forget_visitors_of_parent`: the gate has been reset.
        self.shared.epoch.load(Ordering::Acquire) == fork::generation()
    }

    /// In a fork child: visits that other threads had begun in the parent never end here, so the gate forgets them, once. Until that is done nobody in the child visits, and
    /// whoever comes in between does without: waiting could be for the very thread that it interrupted.
    #[cold]
    fn forget_visitors_of_parent(&self) -> bool {
        let (now, then) = (fork::generation(), self.shared.epoch.load(Ordering::Acquire));
        // A child of a child that was made in the middle of the reset does it again.
        if then == now || then == now | RESETTING || self.shared.closed.load(Ordering::SeqCst) {
            return false;
        }
        if self.shared.epoch.compare_exchange(then, now | RESETTING, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        self.gate().reset();
        self.shared.epoch.store(now, Ordering::Release);
        true
    }

    fn gate(&self) -> &Gate {
        // SAFETY: the reference ends with the borrow of self, and so before `lanes` is dropped.
        unsafe { self.lanes.parts() }.0
    }

    /// The link of an object, for its owner.
    #[inline(always)]
    fn link(&self, index: u32) -> &AtomicU64 {
        let links = self.links();
        debug_assert!(((index + FIRST) as usize) < links.len());
        // SAFETY: there is a link for each number below the capacity, and numbers come from this list. Unchecked: this is on the path of a few nanoseconds.
        unsafe { links.get_unchecked((index + FIRST) as usize) }
    }

    #[inline(always)]
    fn links(&self) -> &[AtomicU64] {
        // SAFETY: as in `gate`.
        unsafe { self.lanes.parts() }.1
    }
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn list(capacity: u32) -> Option<RseqLifo> {
        rseq::available().then(|| RseqLifo::new(&Plan::new(capacity)).expect("memory"))
    }

    /// Everything that can be popped, each once.
    fn drained(list: &RseqLifo) -> Vec<u32> {
        let mut all: Vec<u32> = core::iter::from_fn(|| list.pop().map(|taken| taken.index)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn works_on_while_a_visitor_never_leaves() {
        let Some(list) = list(64) else { return };
        let first = list.pop().expect("64 are free");
        list.push(first.index);
        list.gate().close();
        for _ in 0..1000 {
            let taken = list.pop().expect("64 are free");
            list.push(taken.index);
        }
        // The one in the private list is reached by a visit, which leaves the other visitor's gate as it was.
        assert!(drained(&list).into_iter().eq(0..64));
        assert!(!list.gate().is_open());
    }

    #[test]
    fn a_fork_child_forgets_the_visitors_of_its_parent() {
        let Some(list) = list(64) else { return };
        list.gate().close();
        // SAFETY: the child touches the list, which neither locks nor allocates, and ends by _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let taken = list.pop();
            let code = i32::from(taken.is_none()) + 2 * i32::from(!list.gate().is_open());
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) };
        }
        assert!(pid > 0, "fork");
        let mut status = 0;
        // SAFETY: `status` is writable, `pid` is a child of this process.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "the child popped, and opened the gate");
        assert!(!list.gate().is_open(), "the parent's own is as it was");
    }

    #[test]
    fn forbidden_visits_leave_private_lists_alone() {
        if !rseq::available() {
            return;
        }
        let list = RseqLifo::new(&Plan { visits: false, ..Plan::new(64) }).expect("memory");
        let all = drained(&list);
        assert_eq!(all.len(), 64, "all lie in bags at first");
        all.into_iter().for_each(|index| {
            list.push(index);
        });
        list.gate().close();
        let reached = drained(&list).len();
        list.gate().open();
        assert!((32..64).contains(&reached), "{reached}");
    }
}
