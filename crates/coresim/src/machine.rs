//! A machine as data: how many CPUs, how they are grouped, and what things cost on it.

/// Virtual time. A thousand of them are a nanosecond.
pub type Picoseconds = u64;

/// The most CPUs that a machine can have.
pub const MAX_CPUS: usize = 1024;

/// A machine. Fields are public so that a calibration of your own is a constant:
/// ```
/// use coresim::{Costs, Machine};
/// const MINE: Machine = Machine {
///     name: "two clusters of four",
///     cpus: 8,
///     cluster: 4,
///     socket: 8,
///     costs: Costs { near: 30_000, ..Machine::EPYC_64.costs },
///     ..Machine::EPYC_64
/// };
/// # assert_eq!(MINE.costs.near, 30_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// For tables.
    pub name: &'static str,
    /// CPUs, 1 to [`MAX_CPUS`]. Their numbers are given out cluster by cluster.
    pub cpus: usize,
    /// CPUs of a cluster: those that pass lines to each other fastest.
    pub cluster: usize,
    /// CPUs of a socket.
    pub socket: usize,
    /// What an operation costs.
    pub costs: Costs,
    /// What the operating system does.
    pub scheduling: Scheduling,
}

/// What an operation costs the CPU that performs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// A load or a store, the line being in this CPU's cache.
    pub hit: Picoseconds,
    /// A locked read-modify-write, beyond the arrival of the line.
    pub locked: Picoseconds,
    /// A sequentially consistent store, beyond the arrival of the line.
    pub store_seq_cst: Picoseconds,
    /// A line that no CPU has.
    pub memory: Picoseconds,
    /// A line from a CPU of the same cluster.
    pub near: Picoseconds,
    /// A line from another cluster of the same socket.
    pub far: Picoseconds,
    /// A line from another socket.
    pub socket: Picoseconds,
    /// What a write takes longer for each copy beyond the first that it invalidates.
    pub invalidate: Picoseconds,
    /// How long a line is not given to the next CPU while it is on its way to a reader: reads by
    /// many CPUs follow each other at this distance.
    pub read_occupancy: Picoseconds,
    /// How much of a transfer, in percent, the request is under way: until it has arrived, who has
    /// the line goes on using it. So two CPUs that want the same line do several operations each
    /// before it changes hands; where more are waiting, the next request is there already.
    pub request_percent: u64,
    /// How long a CPU at least keeps a line that it has got for writing before it gives it away.
    pub hold: Picoseconds,
    /// How long it keeps one that [migrates](crate#the-model) until it has written it, at most.
    pub patience: Picoseconds,
    /// How much sooner or later than said a line arrives, in percent of the time that it is under
    /// way: real machines do not run in step for long.
    pub jitter_percent: u64,
    /// A sequentially consistent fence.
    pub fence: Picoseconds,
    /// Any other fence.
    pub fence_weak: Picoseconds,
    /// One round of a spin loop.
    pub pause: Picoseconds,
    /// A system call that does nothing.
    pub system_call: Picoseconds,
    /// Sending an interrupt to one CPU and hearing of it, and the same again on that CPU.
    pub interrupt: Picoseconds,
    /// Going from one thread to another.
    pub context_switch: Picoseconds,
}

/// What the operating system does to threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// How long a thread runs while others wait for its CPU.
    pub time_slice: Picoseconds,
    /// The mean time between two migrations of a running thread that is not pinned; 0 for none.
    pub migration_mean: Picoseconds,
    /// Threads start within this time of each other, by the seed: no two real CPUs run in step.
    pub start_spread: Picoseconds,
}

/// How far two CPUs are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Distance {
    Near,
    Far,
    Socket,
}

impl Costs {
    /// A time that jitters, where `below` gives numbers below a limit.
    pub(crate) fn jitter(&self, time: Picoseconds, below: impl FnOnce(u64) -> u64) -> Picoseconds {
        let most = time * self.jitter_percent / 100;
        if most == 0 { time } else { time - most + below(2 * most) }
    }
}

impl Machine {
    /// The same machine with another number of CPUs, in clusters and sockets of the same size:
    /// fewer of it, or more than anybody has built.
    ///
    /// # Panics
    /// Without a CPU, or with more than [`MAX_CPUS`].
    #[must_use]
    pub fn with_cpus(mut self, cpus: usize) -> Self {
        self.cpus = cpus;
        self.check();
        self
    }

    /// The same machine with other costs.
    #[must_use]
    pub fn with_costs(mut self, change: impl FnOnce(&mut Costs)) -> Self {
        change(&mut self.costs);
        self
    }

    /// The same machine under another scheduler.
    #[must_use]
    pub fn with_scheduling(mut self, change: impl FnOnce(&mut Scheduling)) -> Self {
        change(&mut self.scheduling);
        self
    }

    pub(crate) fn check(&self) {
        assert!((1..=MAX_CPUS).contains(&self.cpus), "{} CPUs: 1 to {MAX_CPUS}", self.cpus);
        assert!(self.cluster > 0 && self.socket > 0, "clusters and sockets have CPUs");
        assert!(self.socket.is_multiple_of(self.cluster), "a socket has whole clusters");
        assert!(self.costs.request_percent <= 100, "a request is a part of the transfer");
        assert!(self.costs.jitter_percent <= 100, "nothing arrives before it was sent");
        assert!(self.costs.hit > 0 && self.costs.pause > 0, "time has to pass");
    }

    pub(crate) fn transfer(&self, distance: Distance) -> Picoseconds {
        match distance {
            Distance::Near => self.costs.near,
            Distance::Far => self.costs.far,
            Distance::Socket => self.costs.socket,
        }
    }

    pub(crate) fn distance(&self, a: usize, b: usize) -> Distance {
        if a / self.cluster == b / self.cluster {
            Distance::Near
        } else if a / self.socket == b / self.socket {
            Distance::Far
        } else {
            Distance::Socket
        }
    }
}
