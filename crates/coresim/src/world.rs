//! The machine while it runs: CPUs, threads, memory.

use crate::events::Event;
use crate::line::{Access, Request};
use crate::machine::{Costs, Machine, Picoseconds};
use crate::memory::Memory;
use crate::random::Random;
use crate::scheduler::Scheduler;
use crate::statistics::Counts;
use std::collections::{BTreeMap, VecDeque};
use std::panic::Location;

/// Something that is done to a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) access: Access,
    /// What it takes once the line is there.
    pub(crate) cost: fn(&Costs) -> Picoseconds,
}

/// How an access goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has happened.
    Done,
    /// Suspend and try again: others come first.
    Later,
    /// Suspend; then it has happened. The line, and when the thread began to wait.
    Queued(u32, Picoseconds),
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scheduler: Scheduler,
    pub(crate) memory: Memory,
    /// Who sleeps on which word, in the order in which they fell asleep.
    sleepers: BTreeMap<usize, VecDeque<usize>>,
    /// When the last line was granted, and when it arrives.
    granted: (Picoseconds, Picoseconds),
    pub(crate) accesses: u64,
    jitter: Random,
    /// Whether accesses are counted by line and place.
    counting: bool,
}

impl World {
    pub(crate) fn new(machine: Machine, seed: u64) -> Self {
        Self {
            scheduler: Scheduler::new(machine, seed),
            memory: Memory::default(),
            sleepers: BTreeMap::new(),
            granted: (0, 0),
            accesses: 0,
            jitter: Random::new(!seed),
            counting: true,
        }
    }

    /// What has happened so far is forgotten.
    pub(crate) fn count_from_here(&mut self) {
        self.memory.forget_counts();
        self.counting = true;
    }

    /// What happens from here on is not in the report.
    pub(crate) fn count_no_more(&mut self) {
        self.counting = false;
    }

    /// The running thread wants to do this to the line of an address.
    pub(crate) fn access(
        &mut self,
        address: usize,
        operation: &Operation,
        location: &'static Location<'static>,
    ) -> Step {
        let Some(ahead) = self.scheduler.ahead() else { return Step::Later };
        let (cpu, now) = (self.scheduler.current_cpu(), self.scheduler.now());
        let machine = &self.scheduler.machine;
        let cost = (operation.cost)(&machine.costs);
        let request = Request { cpu, access: operation.access, cost };
        let place = self.memory.place(address);
        let entry = self.memory.at(place);
        if ahead > 0 && !entry.line.is_quiet_for(request, now, ahead) {
            self.scheduler.give_way();
            return Step::Later;
        }
        self.accesses += 1;
        if entry.line.hit(machine, request, now) {
            if let Some(at) = entry.line.new_grant() {
                self.scheduler.events.add(at, Event::Grant(place));
            }
            if self.counting {
                let counts = Counts { accesses: 1, ..Counts::default() };
                entry.sites.count(location, operation.name, counts);
            }
            self.scheduler.spend(cost);
            Step::Done
        } else {
            entry.line.enqueue(machine, request, now);
            if let Some(at) = entry.line.new_grant() {
                self.scheduler.events.add(at, Event::Grant(place));
            }
            Step::Queued(place, now)
        }
    }

    /// The line goes to the first who waits for it. Returns the thread that goes on. `None`: the
    /// line has gone to somebody already.
    pub(crate) fn grant(&mut self, place: u32, at: Picoseconds) -> Option<usize> {
        let line = &mut self.memory.at(place).line;
        let machine = &self.scheduler.machine;
        let jitter = &mut self.jitter;
        let late = |time| machine.costs.jitter(time, |limit| jitter.below(limit));
        let (request, arrival) = line.grant(machine, at, late)?;
        if let Some(next) = line.new_grant() {
            self.scheduler.events.add(next, Event::Grant(place));
        }
        self.granted = (at, arrival);
        Some(self.scheduler.resume(request.cpu, arrival + request.cost))
    }

    /// The access for which the running thread was queued has happened.
    pub(crate) fn count_granted(
        &mut self,
        place: u32,
        since: Picoseconds,
        operation: &Operation,
        location: &'static Location<'static>,
    ) {
        if !self.counting {
            return;
        }
        let (start, arrival) = self.granted;
        let counts =
            Counts { accesses: 1, transfers: 1, waited: start - since, moved: arrival - start };
        self.memory.at(place).sites.count(location, operation.name, counts);
    }

    /// The running thread sleeps on a word; it has to suspend.
    pub(crate) fn sleep_on(&mut self, address: usize, until: Option<Picoseconds>) {
        let current = self.scheduler.current();
        self.sleepers.entry(address).or_default().push_back(current);
        self.scheduler.block("sleeps on a futex", until);
    }

    /// Wakes up to `count` threads that sleep on the word. Returns how many.
    pub(crate) fn wake(&mut self, address: usize, count: usize) -> usize {
        let Some(queue) = self.sleepers.get_mut(&address) else { return 0 };
        let woken = count.min(queue.len());
        for thread in queue.drain(..woken) {
            self.scheduler.wake(thread);
        }
        woken
    }

    /// A sleep may be over.
    pub(crate) fn timeout(&mut self, thread: usize, sleep: u64, at: Picoseconds) {
        if self.scheduler.timeout(thread, sleep, at).is_some() {
            self.sleepers.values_mut().for_each(|queue| queue.retain(|other| *other != thread));
        }
    }
}
