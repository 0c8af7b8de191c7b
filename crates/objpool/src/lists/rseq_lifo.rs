//! The default: per-CPU lists without a locked instruction, in front of bags that everybody
//! reaches.
//!
//! # Where a free object is
//! - In the private list of one CPU: pushed and popped there by restartable sequences, a few plain
//!   instructions.
//! - In a bag ([`Bags`]): pushed and popped by one compare-and-swap. All objects are there at
//!   first; a push comes here when the private list is at its limit, or when the thread cannot run
//!   sequences.
//!
//! An object goes from a list or bag to an owner and back in one instruction. Nothing moves from
//! list to bag or the reverse while nobody owns it, so there is no moment in which a preempted
//! thread hides a free object. That is what makes `None` exact without waiting.
//!
//! # The last resort
//! A pop that finds its private list and all bags empty, but another CPU's private list not,
//! *visits*: it closes the gate (no sequence runs), waits for none, takes one object by
//! compare-and-swap, and opens the gate. Several visits can overlap; while one lasts everybody else
//! uses the bags. At most half of the objects (or one per CPU) are in private lists, so that this
//! is rare.
//!
//! # Waiting
//! Who waits keeps the gate closed: then every push goes to a bag, and the pool's state is read
//! after it. So a pool for which nobody waits pays nothing for those that could: no sequence knows
//! of waiters. While somebody waits the pool is empty, or was a moment ago; there is not much to be
//! slow about.
//!
//! # Closing
//! The gate is closed for ever, so every later operation takes the slow path, which looks at
//! `closed`.
#![allow(unsafe_code)]

mod bags;
mod lanes;

use crate::BuildError;
use crate::hold::Hold;
use crate::list::{FreeList, Taken, sealed::Sealed};
use crate::lists::flag_array::FlagArray;
use crate::plan::{Plan, Spread};
use bags::Bags;
use core::time::Duration;
use lanes::{FIRST, Lanes};
use percpu::rseq::lifo::{Lifo, Miss, OUT, Word};
use percpu::rseq::{self, Closed, Gate, Refused};
use percpu::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use percpu::sync::{Deadline, Futex};
use percpu::{fence, fork};

/// The longest private list.
const MAX_PRIVATE: u32 = 128;

/// Per-CPU LIFO lists on restartable sequences (Linux `rseq(2)`), as in tcmalloc and librseq, over
/// shared bags. Where there are no restartable sequences it is a [`FlagArray`].
///
/// # Context
/// Pop and push are signal-safe, lock-free and never allocate. They make no system call, with two
/// exceptions: a thread's first operation where the C library does not register threads for rseq
/// (one call), and a pop that finds free objects nowhere but in another CPU's private list
/// (`membarrier`: 0.4 µs, 9 µs with running siblings; [`Builder::visits`](crate::Builder::visits)
/// forbids it).
///
/// # Fork
/// A child's copy of the pool is right and independent. If another thread of the parent was
/// visiting at that moment, the child's first slow operation opens the gate again; a pop that runs
/// in the child at that very moment may miss what lies in private lists. Objects that the parent's
/// other threads held are out for ever in the child.
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
    /// The gate is closed for good, and no sequence is in progress any more.
    shut: AtomicBool,
    /// The fork generation whose visitors the gate counts; with [`RESETTING`] while a child drops
    /// the parent's.
    epoch: AtomicU64,
    visits: bool,
    spread: Spread,
}

const RESETTING: u64 = 1 << 63;

/// A sleep of a thread that waits for a few instructions of another.
const A_MOMENT: Duration = Duration::from_micros(50);

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
            shut: AtomicBool::new(false),
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
        // SAFETY: the caller owns the number, which `pop` gave it (see `FreeList`).
        unsafe { self.lifo.try_push(index + FIRST) }
    }

    #[inline(always)]
    fn pop(&self) -> Option<Taken> {
        match &self.fallback {
            Some(flags) => flags.pop(),
            None => self.pop_private_first(),
        }
    }

    #[inline(always)]
    fn push(&self, index: u32) -> u32 {
        match &self.fallback {
            Some(flags) => flags.push(index),
            None => self.push_private_first(index),
        }
    }

    // A link says who is out in place of what lies below: it is the line that the push writes
    // anyway.
    #[inline(always)]
    fn mark_out(&self, index: u32, slot: u32) {
        self.link(index).store(OUT | u64::from(slot), Ordering::Relaxed);
    }

    #[inline(always)]
    fn popped_on(&self, index: u32) -> Option<u32> {
        let link = self.link(index).load(Ordering::Relaxed);
        (link & OUT != 0).then_some(link as u32)
    }

    /// For the fallback. A push into a bag is sequentially consistent, and one that a sequence
    /// commits is seen by whoever closes the gate after it: but to ask which it was costs more than
    /// this.
    #[inline(always)]
    fn settle(&self) {
        fence::light();
    }

    /// Keeps the gate closed, so that every push goes to the bags.
    fn hold(&self) -> Option<Hold<'_>> {
        if let Some(flags) = &self.fallback {
            return flags.hold();
        }
        while !self.is_current() && !self.forget_visitors_of_parent() {
            if self.shared.closed.load(Ordering::SeqCst) {
                return None;
            }
            // Another thread of this fork child is forgetting them.
            Futex::new().wait(0, Some(&Deadline::after(A_MOMENT)));
        }
        Some(Hold::new(self.gate()))
    }

    fn pop_held(&self, hold: Option<&Hold<'_>>) -> Option<Taken> {
        match hold.and_then(Hold::closed) {
            // What lies in private lists can be had without one more system call, so also where
            // visits are not allowed.
            Some(closed) => self.find(self.shared.spread.here(), Some(closed)),
            None => self.pop(),
        }
    }

    fn close(&self) {
        if let Some(flags) = &self.fallback {
            return flags.close();
        }
        // SeqCst pairs with the loads in `find` and `forget_visitors_of_parent`.
        self.shared.closed.store(true, Ordering::SeqCst);
        // Never opened again. Its fence makes every push that a sequence committed visible to the
        // drain.
        core::mem::forget(self.gate().close());
        // Release pairs with the Acquire in `drain`: the fence is over.
        self.shared.shut.store(true, Ordering::Release);
    }

    fn drain(&self) -> Option<u32> {
        if let Some(flags) = &self.fallback {
            return flags.drain();
        }
        match self.shared.bags.pop(0, self.links()) {
            Ok((entry, _)) => Some(entry - FIRST),
            // The private lists are the closer's until it has shut them: its own drain comes after
            // that.
            Err(_) if !self.shared.shut.load(Ordering::Acquire) => None,
            Err(_) => {
                // SAFETY: `close` forgot one before it set `shut`, and `forget_visitors_of_parent`
                // resets no gate of a list that is closed.
                let closed = unsafe { self.gate().closed_for_good() };
                self.steal(&closed, 0).map(|entry| entry - FIRST)
            }
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
    fn push_private_first(&self, index: u32) -> u32 {
        // SAFETY: as in `push_fast`.
        match unsafe { self.lifo.push(index + FIRST) } {
            Ok(slot) => slot,
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
        self.find(slot, None)
    }

    /// Takes from bags or private lists. These are visited under `hold`, or else under one of its
    /// own, where that is allowed.
    fn find(&self, slot: u32, hold: Option<&Closed<'_>>) -> Option<Taken> {
        loop {
            if self.shared.closed.load(Ordering::SeqCst) {
                return None;
            }
            let entry = match (self.look(slot), hold) {
                (Found::Entry { entry, stolen }, _) => {
                    return Some(Taken { index: entry - FIRST, slot, stolen });
                }
                (Found::Nothing, _) => return None,
                (Found::Changed, _) => None,
                (Found::Private, Some(closed)) => self.steal(closed, slot as usize),
                (Found::Private, None) if !self.may_visit() => return None,
                (Found::Private, None) => self.visit(slot),
            };
            if let Some(entry) = entry {
                return Some(Taken { index: entry - FIRST, slot, stolen: true });
            }
            // Others pushed or popped meanwhile, or this would have ended: lock-free.
        }
    }

    #[cold]
    #[inline(never)]
    fn push_slow(&self, index: u32, miss: Miss) -> u32 {
        let slot = match miss {
            Miss::Empty { cpu } | Miss::Full { cpu } => cpu,
            Miss::Refused(why) => {
                if self.can_run_now(why)
                    // SAFETY: as in `push_fast`.
                    && let Ok(slot) = unsafe { self.lifo.push(index + FIRST) }
                {
                    return slot;
                }
                self.shared.spread.here()
            }
        };
        self.shared.bags.push(slot, self.links(), index + FIRST);
        slot
    }

    /// Takes from a bag, or says what there is. The bags are looked at before and after the private
    /// lists' first reading, the lists once more at the end: see `until_empty_twice` for why two
    /// equal readings mean "empty in between"; the moment is just before the second look at the
    /// bags.
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

    /// Reads the private lists from `first` on, calls `between`, and reads them again. The first
    /// readings are kept on the stack, some per call.
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
        let hold = Hold::new(self.gate());
        self.steal(hold.closed()?, slot as usize)
    }

    fn steal(&self, closed: &Closed<'_>, from: usize) -> Option<u32> {
        let slots = self.gate().slots();
        (0..slots)
            .find_map(|distance| self.lifo.steal(closed, (from + distance) % slots, 1))
            .map(|chain| chain.head)
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

    /// In a fork child: visits that other threads had begun in the parent never end here, so the
    /// gate forgets them, once. Until that is done nobody in the child visits, and whoever comes in
    /// between does without: waiting could be for the very thread that it interrupted.
    #[cold]
    fn forget_visitors_of_parent(&self) -> bool {
        let (now, then) = (fork::generation(), self.shared.epoch.load(Ordering::Acquire));
        // Before the look at `closed`: what `close` adds after that is not among them.
        let parents = self.gate().visitors();
        // A child of a child that was made in the middle of the reset does it again.
        if then == now || then == now | RESETTING || self.shared.closed.load(Ordering::SeqCst) {
            return false;
        }
        if self
            .shared
            .epoch
            .compare_exchange(then, now | RESETTING, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        // SAFETY: nobody visits here while `epoch` is old (`may_visit`), and `close` had not begun
        // when these were counted: they are the parent's.
        unsafe { self.gate().reset(parents) };
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
        // SAFETY: there is a link for each number below the capacity, and numbers come from this
        // list. Unchecked: this is on the path of a few nanoseconds.
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
        let mut all: Vec<u32> =
            core::iter::from_fn(|| list.pop().map(|taken| taken.index)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn works_on_while_a_visitor_never_leaves() {
        let Some(list) = list(64) else { return };
        let first = list.pop().expect("64 are free");
        list.push(first.index);
        core::mem::forget(list.gate().close());
        for _ in 0..1000 {
            let taken = list.pop().expect("64 are free");
            list.push(taken.index);
        }
        // The one in the private list is reached by a visit, which leaves the other visitor's gate
        // as it was.
        assert!(drained(&list).into_iter().eq(0..64));
        assert!(!list.gate().is_open());
    }

    #[test]
    fn a_fork_child_forgets_the_visitors_of_its_parent() {
        let Some(list) = list(64) else { return };
        core::mem::forget(list.gate().close());
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
    fn a_hold_sends_pushes_to_bags_and_reaches_private_lists() {
        if !rseq::available() {
            return;
        }
        let list = RseqLifo::new(&Plan { visits: false, ..Plan::new(64) }).expect("memory");
        let private = list.pop().expect("64 are free");
        list.push(private.index);
        let hold = list.hold();
        assert!(!list.gate().is_open());
        let all: Vec<u32> =
            core::iter::from_fn(|| list.pop_held(hold.as_ref())).map(|taken| taken.index).collect();
        assert_eq!(all.len(), 64, "the private one among them");
        all.iter().for_each(|index| assert!(list.push_fast(*index).is_none(), "refused"));
        all.into_iter().for_each(|index| {
            list.push(index);
        });
        drop(hold);
        assert!(list.gate().is_open());
        assert_eq!(drained(&list).len(), 64, "all went to bags, which need no visit");
    }

    #[test]
    fn a_hold_over_a_fork_is_the_parents() {
        let Some(list) = list(64) else { return };
        let hold = list.hold();
        // SAFETY: the child touches the list, which neither locks nor allocates, and ends by _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // Where the C library registers nothing, the first only registers the child's thread.
            let taken = [list.pop(), list.pop()];
            let open = list.gate().is_open();
            drop(hold);
            let again = list.hold();
            let closed = !list.gate().is_open();
            drop(again);
            let right =
                taken.iter().all(Option::is_some) && open && closed && list.gate().is_open();
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!right)) };
        }
        assert!(pid > 0, "fork");
        let mut status = 0;
        // SAFETY: `status` is writable, `pid` is a child of this process.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "forgotten, not taken back, and the next one counts");
        drop(hold);
        assert!(list.gate().is_open());
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
        core::mem::forget(list.gate().close());
        let reached = drained(&list).len();
        // SAFETY: the one forgotten above.
        unsafe { list.gate().open() };
        assert!((32..64).contains(&reached), "{reached}");
    }
}
