//! A cache line: who has it, when it can go elsewhere, and who waits for it.
//!
//! Exclusive: one CPU, the owner, reads and writes it. Shared: the CPUs of a set read it, nobody
//! has written since. In neither state, only memory has it; the first reader gets it exclusively,
//! as with MESI. A request that is not a hit is a transaction; they follow each other in the order
//! of requests. Where somebody has the line, the request is under way for a part of the transfer,
//! and nothing changes before it has arrived.
//!
//! # Lines that migrate
//! Where one CPU after the other reads a line and then writes it, the head of a list for example, a
//! real machine does not give it twice: a processor that sees the write coming asks for the line
//! exclusively at once, or the caches find the pattern. So do these: a line that is mostly written
//! by who has read it ([`Line::score`]) *migrates*: a reader gets it exclusively, and keeps it
//! until it has written it, but no longer than the machine's patience (P. Stenström, M. Brorsson,
//! L. Sandberg, "An adaptive cache coherence protocol optimized for migratory sharing", ISCA 1993).
//!
//! # Ahead of time
//! Who asks for a line waits until everything that comes before has happened. A hit of a line that
//! is quiet need not: a CPU may be ahead of the others by [`ALONE`] where nobody else has ever
//! asked for the line, and by [`SETTLED`] to read one that nobody has written for [`SETTLING`]. So
//! when somebody does, at last, readers may still see what was there before for the time of a
//! transfer or two; and CPUs that share nothing run as they would alone.

use crate::cpu_set::CpuSet;
use crate::machine::{Machine, Picoseconds};
use std::collections::VecDeque;

/// How far ahead a CPU may use a line that is its own.
const ALONE: Picoseconds = 1_000_000;
/// How far ahead a CPU may read a line that all only read.
const SETTLED: Picoseconds = 200_000;
/// How long nobody has written such a line.
const SETTLING: Picoseconds = 2_000_000;

/// The score from which a line migrates, and the highest.
const MIGRATES: u8 = 4;
const MOST: u8 = 8;

/// What is done to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Needs the line in any state.
    Read,
    /// Needs it exclusively, whether it changes the line or not: a compare-and-swap that fails has
    /// asked for it all the same.
    Write,
}

/// What a CPU wants of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) cpu: usize,
    pub(crate) access: Access,
    /// What the operation takes once the line is there.
    pub(crate) cost: Picoseconds,
}

#[derive(Debug, Default)]
pub(crate) struct Line {
    owner: Option<usize>,
    /// Empty while there is an owner.
    sharers: CpuSet,
    /// Whether the owner has written it since it came.
    dirty: bool,
    /// What speaks for a write after each read: a write by who has a copy does, a read, and a
    /// further look at a copy, against it.
    score: u8,
    /// No transaction starts before this.
    free_at: Picoseconds,
    /// When it goes to the next, as far as somebody will come back then.
    known: Option<Picoseconds>,
    /// Requests, and when each arrives where the line is.
    queue: VecDeque<(Request, Picoseconds)>,
    /// Who has asked for it first, and whether others have.
    first: Option<usize>,
    others: bool,
    written_at: Picoseconds,
}

impl Line {
    /// Whether the CPU has the line as it needs it.
    pub(crate) fn hits(&self, request: Request) -> bool {
        self.owner == Some(request.cpu)
            || request.access == Access::Read && self.sharers.contains(request.cpu)
    }

    /// Whether this is a hit that no other CPU could notice, though it comes before its time.
    pub(crate) fn is_quiet_for(
        &self,
        request: Request,
        now: Picoseconds,
        ahead: Picoseconds,
    ) -> bool {
        let alone = !self.others && self.owner == Some(request.cpu) && ahead < ALONE;
        let settled = || {
            request.access == Access::Read
                && ahead < SETTLED
                && now > self.written_at + SETTLING
                && self.queue.is_empty()
                && self.hits(request)
        };
        alone || settled()
    }

    /// Does what the CPU can do without asking anybody. False: it has to ask.
    pub(crate) fn hit(&mut self, machine: &Machine, request: Request, now: Picoseconds) -> bool {
        let hits = self.hits(request);
        if hits && self.owner.is_none() {
            self.score = self.score.saturating_sub(1);
        }
        if hits && request.access == Access::Write {
            if !self.dirty {
                // What it was kept for has happened.
                self.free_at = self.free_at.min(now + machine.costs.hold.max(request.cost));
            }
            self.written_at = now;
            self.dirty = true;
        }
        hits
    }

    /// The request, which is no hit, waits behind the others.
    pub(crate) fn enqueue(&mut self, machine: &Machine, request: Request, now: Picoseconds) {
        let under_way = self.request_part(machine, self.latency(machine, request));
        self.others |= self.first.is_some_and(|first| first != request.cpu);
        self.first.get_or_insert(request.cpu);
        self.queue.push_back((request, now + under_way));
    }

    /// When the first who waits gets the line, if nobody knows that yet: somebody has to come back
    /// then.
    #[inline]
    pub(crate) fn new_grant(&mut self) -> Option<Picoseconds> {
        let (_, arrives) = self.queue.front()?;
        let at = self.free_at.max(*arrives);
        if self.known.is_some_and(|known| known <= at) {
            return None;
        }
        self.known = Some(at);
        Some(at)
    }

    /// Gives the line to the first who waits, now. Returns the request, and when the line arrives,
    /// which is as late as `late` says of the time that it is under way. `None`: it is not the
    /// time; it has come sooner.
    pub(crate) fn grant(
        &mut self,
        machine: &Machine,
        now: Picoseconds,
        late: impl FnOnce(Picoseconds) -> Picoseconds,
    ) -> Option<(Request, Picoseconds)> {
        if self.known != Some(now) {
            return None;
        }
        self.known = None;
        let (request, _) = self.queue.pop_front()?;
        let latency = self.latency(machine, request);
        let arrival = now + late(latency - self.request_part(machine, latency));
        let Request { cpu, access, cost } = request;
        match access {
            Access::Read if self.owner.is_some() && self.score >= MIGRATES => {
                self.score = if self.dirty { MOST } else { self.score - 1 };
                self.owner = Some(cpu);
                self.dirty = false;
                self.free_at = arrival + machine.costs.hold.max(machine.costs.patience).max(cost);
            }
            Access::Read => {
                self.score = self.score.saturating_sub(1);
                self.share_with(cpu);
                self.free_at = now + machine.costs.read_occupancy.min(arrival - now);
            }
            Access::Write => {
                self.score = if self.sharers.contains(cpu) {
                    (self.score + 3).min(MOST)
                } else {
                    // Its copy may have been taken away meanwhile, or it had none: that alone does
                    // not make it migrate.
                    self.score.max((self.score + 1).min(MIGRATES - 1))
                };
                self.owner = Some(cpu);
                self.dirty = true;
                self.sharers.clear();
                self.written_at = arrival;
                self.free_at = arrival + machine.costs.hold.max(cost);
            }
        }
        Some((request, arrival))
    }

    /// The CPU gets a copy; the first of all has it for itself.
    fn share_with(&mut self, cpu: usize) {
        if let Some(owner) = self.owner.take() {
            self.sharers.insert(owner);
        }
        if self.sharers.len() == 0 {
            self.owner = Some(cpu);
            self.dirty = false;
        } else {
            self.sharers.insert(cpu);
        }
    }

    /// How long a request is under way, of the whole time: to who has the line, if anybody does.
    fn request_part(&self, machine: &Machine, latency: Picoseconds) -> Picoseconds {
        let held = self.owner.is_some() || self.sharers.len() > 0;
        if held { latency * machine.costs.request_percent / 100 } else { 0 }
    }

    /// From the request to the arrival, if nobody else wants the line.
    fn latency(&self, machine: &Machine, Request { cpu, access, .. }: Request) -> Picoseconds {
        if let Some(owner) = self.owner {
            return machine.transfer(machine.distance(cpu, owner));
        }
        let Some(others) = self.sharers.others(machine, cpu) else { return machine.costs.memory };
        match access {
            Access::Read => machine.transfer(others.nearest),
            // The data comes from the nearest, but the farthest has to confirm, too.
            Access::Write => {
                let more = others.count as u64 - 1;
                machine.transfer(others.farthest) + machine.costs.invalidate * more
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of two clusters of two CPUs, with costs that show in the digits of a sum.
    fn machine() -> Machine {
        Machine { cluster: 2, socket: 4, ..Machine::EPYC_64 }.with_cpus(8).with_costs(|costs| {
            costs.memory = 1_000_000;
            costs.near = 100;
            costs.far = 1_000;
            costs.socket = 10_000;
            costs.invalidate = 1;
            costs.read_occupancy = 30;
            costs.hold = 500;
            costs.patience = 700;
            costs.request_percent = 20;
        })
    }

    fn of(cpu: usize, access: Access) -> Request {
        Request { cpu, access, cost: 5 }
    }

    /// The one request there is. Returns when it is granted and when the line arrives.
    fn serve(line: &mut Line, request: Request, now: Picoseconds) -> (Picoseconds, Picoseconds) {
        line.enqueue(&machine(), request, now);
        let at = line.new_grant().expect("nobody else waits");
        let (granted, arrival) = line.grant(&machine(), at, |late| late).expect("it waits");
        assert_eq!(granted.cpu, request.cpu);
        (at, arrival)
    }

    #[test]
    fn each_state_costs_what_it_costs() {
        use Access::{Read, Write};
        let mut line = Line::default();
        let mut at = 0;
        for (cpu, access, latency, occupied) in [
            (0, Write, 1_000_000, 1_000_500), // from memory
            (1, Write, 100, 600),             // same cluster
            (2, Write, 1_000, 1_500),         // other cluster
            (7, Write, 10_000, 10_500),       // other socket
            (6, Read, 100, 20 + 30),          // from the owner, who keeps a copy
            (0, Read, 10_000, 2_000 + 30),    // both copies are in the other socket
            (1, Read, 100, 20 + 30),          // 0 has one, too
            (2, Read, 1_000, 200 + 30),
            // Invalidates 0, 2, 6, 7: the farthest confirms, three more.
            (1, Write, 10_003, 10_503),
            (0, Read, 100, 20 + 30),
            // Had a copy; one other to invalidate.
            (0, Write, 100, 600),
        ] {
            let request = of(cpu, access);
            assert!(!line.hits(request), "{cpu} {access:?}");
            let (granted, arrival) = serve(&mut line, request, at);
            let request_part = if latency == 1_000_000 { 0 } else { latency / 5 };
            assert_eq!((granted, arrival), (at + request_part, at + latency), "{cpu} {access:?}");
            assert_eq!(line.free_at, at + occupied, "{cpu} {access:?}");
            assert!(line.hits(of(cpu, Read)));
            assert_eq!(line.hits(of(cpu, Write)), access == Write);
            at = line.free_at;
        }
    }

    #[test]
    fn the_first_reader_may_write() {
        let mut line = Line::default();
        assert_eq!(serve(&mut line, of(3, Access::Read), 7), (7, 1_000_007));
        assert!(line.hits(of(3, Access::Write)));
        assert!(!line.hits(of(2, Access::Read)));
    }

    #[test]
    fn a_line_is_kept_for_its_operation_at_least() {
        let mut line = Line::default();
        serve(&mut line, Request { cost: 900, ..of(0, Access::Write) }, 0);
        assert_eq!(line.free_at, 1_000_900);
    }

    /// Two that read and write it in turn: it comes twice, until that is seen; then once. After
    /// some that only read, twice again.
    #[test]
    fn what_is_read_and_then_written_migrates() {
        use Access::{Read, Write};
        let mut line = Line::default();
        let mut at = 0;
        let mut written_at_once = |cpu, access| {
            let [read, write] = [access, Write].map(|access| {
                at = at.max(line.free_at) + 1;
                let hit = line.hit(&machine(), of(cpu, access), at);
                if !hit {
                    at = serve(&mut line, of(cpu, access), at).1;
                }
                hit
            });
            !read && write
        };
        assert!(written_at_once(0, Write));
        assert_eq!([1, 0, 1, 0].map(|cpu| written_at_once(cpu, Read)), [false, false, true, true]);
        for cpu in [1, 2, 3, 1, 2, 3, 1, 2, 3] {
            if !line.hit(&machine(), of(cpu, Read), at) {
                let free = at.max(line.free_at) + 1;
                at = serve(&mut line, of(cpu, Read), free).1;
            }
        }
        assert!(line.sharers.len() > 1, "nobody gets it exclusively any more");
    }

    /// It is kept until it is written, or for as long as patience lasts.
    #[test]
    fn what_migrates_is_kept_until_it_is_written() {
        use Access::{Read, Write};
        let migrating = || {
            let mut line = Line::default();
            let mut at = 0;
            for (cpu, access) in [(0, Write), (1, Read), (1, Write), (0, Read), (0, Write)] {
                at = serve(&mut line, of(cpu, access), at).1;
            }
            let arrival = serve(&mut line, of(1, Read), at).1;
            line.enqueue(&machine(), of(0, Read), arrival);
            (line, arrival)
        };
        let (mut line, arrival) = migrating();
        assert_eq!(line.new_grant(), Some(arrival + 700));
        let (mut line, arrival) = (line, arrival);
        assert!(line.hit(&machine(), of(1, Write), arrival + 50));
        assert_eq!(line.new_grant(), Some(arrival + 550));
        assert!(line.grant(&machine(), arrival + 700, |late| late).is_none(), "it comes sooner");
        assert!(line.grant(&machine(), arrival + 550, |late| late).is_some());
    }

    /// Whoever has the line uses it until the request arrives; the next request has arrived by
    /// then.
    #[test]
    fn requests_are_under_way_while_the_line_is_used() {
        let (machine, mut line) = (machine(), Line::default());
        serve(&mut line, of(0, Access::Write), 0);
        let now = 2_000_000;
        line.enqueue(&machine, of(4, Access::Write), now);
        assert_eq!(line.new_grant(), Some(now + 2_000));
        line.enqueue(&machine, of(5, Access::Write), now + 1);
        assert_eq!(line.new_grant(), None);
        assert!(line.hits(of(0, Access::Write)));
        let (first, arrival) = line.grant(&machine, now + 2_000, |late| late).expect("two wait");
        assert_eq!((first.cpu, arrival), (4, now + 10_000));
        assert!(!line.hits(of(0, Access::Read)));
        assert_eq!(line.new_grant(), Some(now + 10_500));
        // From the other CPU of its cluster by now.
        let (second, arrival) = line.grant(&machine, now + 10_500, |late| late).expect("one");
        assert_eq!((second.cpu, arrival), (5, now + 10_580));
        assert_eq!(line.new_grant(), None);
    }
}
