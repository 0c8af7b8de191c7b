//! Flavours with grace periods: RCU, SRCU, and one that only pretends.
#![allow(unsafe_code)]

use crate::chance::Chance;
use crate::flavour::{Flavour, Held, Visit};
use crate::stage::{Pipe, Stage};
use reclaim::rcu;
use reclaim::srcu;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// At most `LAST` objects age, one is current, one is about to be.
const OBJECTS: usize = 16;

/// Sections and grace periods.
pub(crate) trait GracePeriods: Sync + 'static {
    const NAME: &'static str;
    const READERS_MAY_SLEEP: bool;

    /// An open section.
    type Section<'a>
    where
        Self: 'a;

    fn enter(&self) -> Self::Section<'_>;

    /// A section that may end on another thread.
    fn enter_for_other_thread(&self) -> Option<Box<dyn Send + '_>> {
        None
    }

    /// Returns after a grace period.
    fn wait(&self, chance: &mut Chance);
}

/// A current object, and a pipe that advances with each grace period.
pub(crate) struct Grace<G> {
    periods: G,
    stages: [Stage; OBJECTS],
    current: AtomicUsize,
    pipe: Mutex<Pipe>,
}

impl<G: GracePeriods> Grace<G> {
    pub(crate) fn new(periods: G) -> Self {
        Self {
            periods,
            stages: Default::default(),
            current: AtomicUsize::new(0),
            pipe: Mutex::new(Pipe::new(OBJECTS)),
        }
    }

    fn found(&self) -> &Stage {
        // Acquire pairs with the writer's swap: the object was renewed before.
        &self.stages[self.current.load(Ordering::Acquire)]
    }
}

impl<G: GracePeriods> Flavour for Grace<G> {
    fn name(&self) -> &'static str {
        G::NAME
    }

    fn readers_may_sleep(&self) -> bool {
        G::READERS_MAY_SLEEP
    }

    fn read(&self, chance: &mut Chance, visit: Visit<'_>) {
        let _outer = chance.once_in(4).then(|| self.periods.enter());
        let _section = self.periods.enter();
        visit(self.found());
    }

    fn read_in_handler(&self, visit: Visit<'_>) -> bool {
        let _section = self.periods.enter();
        visit(self.found());
        true
    }

    fn take_away(&self) -> Option<Box<dyn Held + '_>> {
        let section = self.periods.enter_for_other_thread()?;
        Some(Box::new(Open { object: self.found(), _section: section }))
    }

    fn update(&self, chance: &mut Chance) {
        let mut pipe = self.pipe.lock().expect("one writer, which does not panic");
        let next = pipe.take().expect("at most LAST objects age");
        self.stages[next].renew();
        // Release pairs with the load in `found`
        let old = self.current.swap(next, Ordering::AcqRel);
        self.stages[old].advance();
        pipe.enter(old);
        self.periods.wait(chance);
        pipe.age(|object| self.stages[object].advance());
    }

    fn finish(&self) -> Result<(), String> {
        let mut pipe = self.pipe.lock().expect("one writer, which does not panic");
        let mut chance = Chance::new(1, 0);
        for _ in 0..super::stage::LAST {
            self.periods.wait(&mut chance);
            pipe.age(|object| self.stages[object].advance());
        }
        if pipe.aging() == 0 {
            Ok(())
        } else {
            Err(format!("{} objects never aged to the end", pipe.aging()))
        }
    }
}

/// A section on its way to another thread.
struct Open<'f> {
    object: &'f Stage,
    _section: Box<dyn Send + 'f>,
}

impl Held for Open<'_> {
    fn finish(self: Box<Self>, visit: Visit<'_>) {
        visit(self.object);
    }
}

/// Waits by `synchronize` or for a callback.
#[derive(Default)]
pub(crate) struct Rcu {
    waiter: Waiter,
}

/// A callback that says that it ran.
#[repr(C)]
#[derive(Default)]
struct Waiter {
    head: rcu::Head,
    done: AtomicBool,
}

/// # Safety
/// `head` is the first field of a `Waiter` that outlives the call.
unsafe fn tell(head: NonNull<rcu::Head>) {
    // SAFETY: the caller's promise; `Waiter` is repr(C) with the head first.
    let waiter = unsafe { head.cast::<Waiter>().as_ref() };
    waiter.done.store(true, Ordering::Release); // pairs with the Acquire in `wait`
}

impl GracePeriods for Rcu {
    const NAME: &'static str = "rcu";
    const READERS_MAY_SLEEP: bool = false;

    type Section<'a> = rcu::Guard<'static>;

    fn enter(&self) -> rcu::Guard<'static> {
        rcu::read_lock()
    }

    fn wait(&self, chance: &mut Chance) {
        match chance.below(3) {
            0 => rcu::synchronize(),
            1 => {
                self.queue();
                rcu::barrier();
                assert!(
                    self.waiter.done.load(Ordering::Acquire),
                    "a barrier waits for what was queued before"
                ); // pairs with `tell`
            }
            _ => {
                self.queue();
                while !self.waiter.done.load(Ordering::Acquire) {
                    rcu::run_callbacks();
                    std::thread::yield_now();
                }
            }
        }
    }
}

impl Rcu {
    fn queue(&self) {
        self.waiter.done.store(false, Ordering::Relaxed); // ordered by the queueing below
        let head = NonNull::from(&self.waiter).cast::<rcu::Head>();
        // SAFETY: the last callback has run (`wait` returned), and `self` outlives this one, for
        // which the caller waits.
        unsafe { rcu::call(head, tell) };
    }
}

/// Asks for a grace period and polls.
pub(crate) struct RcuPoll;

impl GracePeriods for RcuPoll {
    const NAME: &'static str = "rcu-poll";
    const READERS_MAY_SLEEP: bool = false;

    type Section<'a> = rcu::Guard<'static>;

    fn enter(&self) -> rcu::Guard<'static> {
        rcu::read_lock()
    }

    fn wait(&self, chance: &mut Chance) {
        let cookie = if chance.once_in(2) { rcu::start_poll() } else { rcu::get_state() };
        while !rcu::poll(cookie) {
            if chance.once_in(4) {
                std::thread::yield_now();
            }
        }
    }
}

/// Either flavour of SRCU: synchronize and polled.
pub(crate) struct Srcu<K: Named>(srcu::SrcuDomain<K>);

/// A flavour of SRCU with its name.
pub(crate) trait Named: srcu::Flavour + 'static {
    const NAME: &'static str;
}

impl Named for srcu::Normal {
    const NAME: &'static str = "srcu";
}

impl Named for srcu::Fast {
    const NAME: &'static str = "srcu-fast";
}

impl<K: Named> Srcu<K> {
    pub(crate) fn new() -> Self {
        Self(srcu::SrcuDomain::new())
    }
}

impl<K: Named> GracePeriods for Srcu<K>
where
    srcu::SrcuDomain<K>: Sync,
    for<'a> srcu::Guard<'a, K>: Send,
{
    const NAME: &'static str = K::NAME;
    const READERS_MAY_SLEEP: bool = true;

    type Section<'a> = srcu::Guard<'a, K>;

    fn enter(&self) -> srcu::Guard<'_, K> {
        self.0.read_lock()
    }

    fn enter_for_other_thread(&self) -> Option<Box<dyn Send + '_>> {
        Some(Box::new(self.0.read_lock()))
    }

    fn wait(&self, chance: &mut Chance) {
        if chance.once_in(2) {
            return self.0.synchronize();
        }
        let cookie = self.0.start_poll();
        while !self.0.poll(cookie) {
            std::thread::yield_now();
        }
    }
}

/// Does not wait at all: what the torture has to find.
pub(crate) struct Broken;

impl GracePeriods for Broken {
    const NAME: &'static str = "broken";
    const READERS_MAY_SLEEP: bool = true;

    type Section<'a> = ();

    fn enter(&self) {}

    fn wait(&self, _chance: &mut Chance) {}
}
