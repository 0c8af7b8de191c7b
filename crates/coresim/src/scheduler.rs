//! Which thread is on which CPU, and when.
//!
//! Every CPU has a clock. A CPU whose thread can go on has one event `Run` at its clock, but for
//! the one that runs at this moment; a CPU whose thread waits for a line has none until the line is
//! granted; an idle CPU has none. Whoever is about to do something that others can see asks for its
//! [`turn`](Scheduler::turn) and gets it when no event comes before it: so all that can be seen
//! happens in the order of time.

use crate::events::{Event, Events};
use crate::machine::{Machine, Picoseconds};
use crate::random::Random;
use core::ffi::c_void;
use std::collections::VecDeque;

/// What a thread has to do that has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Go on: it is its turn.
    Now,
    /// Suspend, and ask again.
    Later,
}

#[derive(Debug, Default)]
struct Cpu {
    clock: Picoseconds,
    running: Option<usize>,
    ready: VecDeque<usize>,
    slice_end: Picoseconds,
    /// Time that interrupts have taken and that its thread has not yet noticed.
    interrupted: Picoseconds,
    /// A thread has moved here while another ran, which goes to this CPU in exchange.
    exchange: Option<usize>,
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// On a CPU.
    Running,
    /// Could run, but others do.
    Ready,
    /// Sleeps; why, for the message about a deadlock.
    Blocked(&'static str),
    /// Has returned.
    Ended,
}

#[derive(Debug)]
struct Thread {
    cpu: usize,
    pinned: bool,
    state: State,
    migrate_at: Picoseconds,
    /// How often it has slept: a timeout for an earlier sleep is stale.
    sleeps: u64,
    timed_out: bool,
    joiners: Vec<usize>,
    ended_at: Picoseconds,
    /// How often it was put on a CPU, or a sequence of its was aborted from outside.
    disturbed: u64,
    /// What the program keeps for it.
    words: [*mut (); WORDS],
    /// What runs when it has returned.
    at_end: Vec<AtEnd>,
}

/// Pointers that each thread has for the program.
pub(crate) const WORDS: usize = 8;

/// A function that a thread calls at its end, with null.
pub(crate) type AtEnd = extern "C" fn(*mut c_void);

#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) machine: Machine,
    pub(crate) events: Events,
    random: Random,
    cpus: Vec<Cpu>,
    threads: Vec<Thread>,
    /// Who runs at this moment of real time.
    current: usize,
    pub(crate) switches: u64,
    pub(crate) migrations: u64,
}

impl Scheduler {
    pub(crate) fn new(machine: Machine, seed: u64) -> Self {
        machine.check();
        let cpus = (0..machine.cpus).map(|_| Cpu::default()).collect();
        Self {
            machine,
            events: Events::default(),
            random: Random::new(seed),
            cpus,
            threads: Vec::new(),
            current: 0,
            switches: 0,
            migrations: 0,
        }
    }

    pub(crate) fn current(&self) -> usize {
        self.current
    }

    pub(crate) fn current_cpu(&self) -> usize {
        self.threads[self.current].cpu
    }

    pub(crate) fn now(&self) -> Picoseconds {
        self.cpus[self.current_cpu()].clock
    }

    /// Time passes on the CPU of the running thread.
    pub(crate) fn spend(&mut self, time: Picoseconds) {
        let cpu = self.current_cpu();
        self.cpus[cpu].clock += time;
    }

    /// The thread on this CPU, whose time has come, is the one that runs now.
    pub(crate) fn resume(&mut self, cpu: usize, at: Picoseconds) -> usize {
        let thread = self.cpus[cpu].running.expect("only a CPU with a thread has events");
        self.cpus[cpu].clock = at;
        self.current = thread;
        thread
    }

    /// Whether the running thread may do now what others can see.
    #[inline]
    pub(crate) fn turn(&mut self) -> Turn {
        match self.ahead() {
            Some(0) => Turn::Now,
            Some(_) => self.give_way(),
            None => Turn::Later,
        }
    }

    /// How far the running thread is ahead of what happens next. `None`: it has to leave its CPU,
    /// and suspend.
    #[inline]
    pub(crate) fn ahead(&mut self) -> Option<Picoseconds> {
        let here = self.current_cpu();
        let cpu = &mut self.cpus[here];
        cpu.clock += std::mem::take(&mut cpu.interrupted);
        let now = cpu.clock;
        let may_move = !self.threads[self.current].pinned;
        if may_move && let Some(there) = cpu.exchange {
            self.move_to(there, now);
        } else if now >= cpu.slice_end && !cpu.ready.is_empty() {
            self.requeue(now);
        } else if may_move && self.threads[self.current].migrate_at <= now {
            self.migrate(now);
        } else {
            return Some(self.events.due(now));
        }
        None
    }

    /// The running thread suspends until it is its turn.
    pub(crate) fn give_way(&mut self) -> Turn {
        self.events.add(self.now(), Event::Run(self.current_cpu()));
        Turn::Later
    }

    /// A new thread, which is ready now.
    pub(crate) fn spawn(&mut self, pinned: Option<usize>) -> usize {
        let cpu = pinned.unwrap_or_else(|| {
            let load = |cpu: &Cpu| cpu.ready.len() + usize::from(cpu.running.is_some());
            let cpus = self.cpus.iter().enumerate();
            cpus.min_by_key(|(_, cpu)| load(cpu)).map_or(0, |(number, _)| number)
        });
        let now = if self.threads.is_empty() { 0 } else { self.now() };
        let thread = self.threads.len();
        let mut new = Thread {
            cpu,
            pinned: pinned.is_some(),
            state: State::Ready,
            migrate_at: Picoseconds::MAX,
            sleeps: 0,
            timed_out: false,
            joiners: Vec::new(),
            ended_at: 0,
            disturbed: 0,
            words: [std::ptr::null_mut(); WORDS],
            at_end: Vec::new(),
        };
        new.migrate_at = self.next_migration(now);
        self.threads.push(new);
        let spread = self.random.below(self.machine.scheduling.start_spread);
        self.make_ready(thread, now + spread);
        thread
    }

    /// Whether the thread has ended; if not, the running one is woken when it has.
    pub(crate) fn join(&mut self, thread: usize) -> bool {
        let ended = self.threads[thread].state == State::Ended;
        if !ended {
            self.threads[thread].joiners.push(self.current);
        }
        ended
    }

    /// The running thread sleeps, until somebody wakes it or the time comes. It has to suspend.
    pub(crate) fn block(&mut self, why: &'static str, until: Option<Picoseconds>) {
        let (current, cpu, now) = (self.current, self.current_cpu(), self.now());
        let thread = &mut self.threads[current];
        thread.state = State::Blocked(why);
        thread.sleeps += 1;
        thread.timed_out = false;
        if let Some(until) = until {
            self.events.add(until.max(now), Event::Timeout(current, thread.sleeps));
        }
        self.start_next(cpu, now);
    }

    /// Whether the last sleep of the running thread ended by its timeout.
    pub(crate) fn timed_out(&self) -> bool {
        self.threads[self.current].timed_out
    }

    /// Wakes a thread that sleeps.
    pub(crate) fn wake(&mut self, thread: usize) {
        self.make_ready(thread, self.now());
    }

    /// A sleep is over. `None`: that one has ended already.
    pub(crate) fn timeout(&mut self, thread: usize, sleep: u64, at: Picoseconds) -> Option<usize> {
        let sleeper = &mut self.threads[thread];
        if sleeper.sleeps != sleep || !matches!(sleeper.state, State::Blocked(_)) {
            return None;
        }
        sleeper.timed_out = true;
        self.make_ready(thread, at);
        Some(thread)
    }

    /// The running thread lets the others of its CPU run. True: there are some, so it has to
    /// suspend.
    pub(crate) fn yield_now(&mut self) -> bool {
        let others = !self.cpus[self.current_cpu()].ready.is_empty();
        if others {
            self.requeue(self.now());
        }
        others
    }

    /// The running thread has returned.
    pub(crate) fn end(&mut self) {
        let (current, cpu, now) = (self.current, self.current_cpu(), self.now());
        let thread = &mut self.threads[current];
        thread.state = State::Ended;
        thread.ended_at = now;
        for joiner in std::mem::take(&mut thread.joiners) {
            self.make_ready(joiner, now);
        }
        self.start_next(cpu, now);
    }

    /// Interrupts every other CPU that runs a thread. Returns how many.
    pub(crate) fn interrupt_others(&mut self) -> u64 {
        let here = self.current_cpu();
        let mut interrupted = 0;
        for (number, cpu) in self.cpus.iter_mut().enumerate() {
            if number != here && cpu.running.is_some() {
                cpu.interrupted += self.machine.costs.interrupt;
                interrupted += 1;
            }
        }
        interrupted
    }

    /// Disturbs every running thread, as if it had been away from its CPU.
    pub(crate) fn disturb(&mut self) {
        for thread in self.cpus.iter().filter_map(|cpu| cpu.running) {
            self.threads[thread].disturbed += 1;
        }
    }

    /// Grows whenever the running thread may have been away from its CPU.
    pub(crate) fn disturbances(&self) -> u64 {
        self.threads[self.current].disturbed
    }

    /// What the program keeps for the running thread.
    pub(crate) fn words(&mut self) -> &mut [*mut (); WORDS] {
        &mut self.threads[self.current].words
    }

    /// What the running thread has to call at its end.
    pub(crate) fn at_end(&mut self) -> &mut Vec<AtEnd> {
        &mut self.threads[self.current].at_end
    }

    /// Threads that have not ended, and what they do.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = (usize, State)> {
        let threads = self.threads.iter().enumerate();
        threads
            .map(|(number, thread)| (number, thread.state))
            .filter(|(_, state)| *state != State::Ended)
    }

    /// When the last thread ended.
    pub(crate) fn ended_at(&self) -> Picoseconds {
        self.threads.iter().map(|thread| thread.ended_at).max().unwrap_or(0)
    }

    fn make_ready(&mut self, thread: usize, at: Picoseconds) {
        let home = self.threads[thread].cpu;
        let idle = |cpu: &Cpu| cpu.running.is_none();
        let cpu = if idle(&self.cpus[home]) || self.threads[thread].pinned {
            home
        } else {
            self.cpus.iter().position(idle).unwrap_or(home)
        };
        if idle(&self.cpus[cpu]) {
            self.place(cpu, thread, at);
        } else {
            self.threads[thread].state = State::Ready;
            self.cpus[cpu].ready.push_back(thread);
        }
    }

    /// Puts the thread on a CPU that has none.
    fn place(&mut self, cpu: usize, thread: usize, at: Picoseconds) {
        self.threads[thread].state = State::Running;
        self.threads[thread].cpu = cpu;
        self.threads[thread].disturbed += 1;
        self.switches += 1;
        let (costs, scheduling) = (&self.machine.costs, &self.machine.scheduling);
        let place = &mut self.cpus[cpu];
        place.running = Some(thread);
        place.clock = place.clock.max(at) + costs.context_switch;
        // Whatever is due, each thread gets to do something before it is moved again.
        place.slice_end = place.clock + scheduling.time_slice.max(1);
        let starts = place.clock;
        self.events.add(starts, Event::Run(cpu));
        if self.threads[thread].migrate_at <= starts {
            self.threads[thread].migrate_at = self.next_migration(starts);
        }
    }

    /// The thread of this CPU has left it: the next one, or one that waits elsewhere.
    fn start_next(&mut self, cpu: usize, at: Picoseconds) {
        self.cpus[cpu].running = None;
        self.cpus[cpu].exchange = None;
        let next = self.cpus[cpu].ready.pop_front().or_else(|| self.steal());
        if let Some(thread) = next {
            self.place(cpu, thread, at);
        }
    }

    /// A thread that waits for the CPU for which most threads wait.
    fn steal(&mut self) -> Option<usize> {
        let threads = &self.threads;
        let movable = |thread: &usize| !threads[*thread].pinned;
        // A CPU that has just been given a thread in exchange for its own keeps it.
        let victims = self.cpus.iter_mut().filter(|cpu| cpu.exchange.is_none());
        let longest =
            victims.rev().max_by_key(|cpu| cpu.ready.iter().filter(|t| movable(t)).count())?;
        let at = longest.ready.iter().position(movable)?;
        longest.ready.remove(at)
    }

    /// The running thread goes behind those that wait for its CPU.
    fn requeue(&mut self, now: Picoseconds) {
        let cpu = self.current_cpu();
        self.threads[self.current].state = State::Ready;
        self.cpus[cpu].ready.push_back(self.current);
        self.start_next(cpu, now);
    }

    /// The running thread goes to another CPU, and that one's thread comes here in exchange.
    fn migrate(&mut self, now: Picoseconds) {
        let here = self.current_cpu();
        self.threads[self.current].migrate_at = self.next_migration(now);
        if self.cpus.len() == 1 {
            self.events.add(now, Event::Run(here));
            return;
        }
        let others = self.cpus.len() as u64 - 1;
        let there = (here + 1 + self.random.below(others) as usize) % self.cpus.len();
        if self.cpus[there].running.is_some() {
            // Before the move: the CPU that is left must not take the thread back.
            self.cpus[there].exchange = Some(here);
        }
        self.move_to(there, now);
    }

    fn move_to(&mut self, there: usize, now: Picoseconds) {
        let (here, thread) = (self.current_cpu(), self.current);
        self.migrations += 1;
        self.threads[thread].cpu = there;
        self.threads[thread].state = State::Ready;
        if self.cpus[there].running.is_none() {
            self.place(there, thread, now);
        } else {
            self.cpus[there].ready.push_front(thread);
        }
        self.start_next(here, now);
    }

    /// With the stated mean: anything from now to twice that.
    fn next_migration(&mut self, now: Picoseconds) -> Picoseconds {
        match self.machine.scheduling.migration_mean {
            0 => Picoseconds::MAX,
            mean => now + 1 + self.random.below(2 * mean),
        }
    }
}
