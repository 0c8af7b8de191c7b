//! A cache line: who has it, when it can go elsewhere, and who waits for it.
//!
//! Exclusive: one CPU, the owner, reads and writes it. Shared: the CPUs of a set read it, nobody
//! has written since. In neither state, only memory has it; the first reader gets it exclusively,
//! as with MESI. A request that is not a hit is a transaction; they follow each other in the order
//! of requests. Where somebody has the line, the request is under way for a part of the transfer,
//! and nothing changes before it has arrived.

use crate::cpu_set::CpuSet;
use crate::machine::{Machine, Picoseconds};
use std::collections::VecDeque;

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
    /// No transaction starts before this.
    free_at: Picoseconds,
    /// Requests, and when each arrives where the line is.
    queue: VecDeque<(Request, Picoseconds)>,
}

impl Line {
    /// Whether the CPU has the line as it needs it.
    pub(crate) fn hits(&self, request: Request) -> bool {
        self.owner == Some(request.cpu)
            || request.access == Access::Read && self.sharers.contains(request.cpu)
    }

    /// The request, which is no hit, waits behind the others. Returns the time of the next grant
    /// if there are none, so that somebody has to come back then.
    pub(crate) fn enqueue(
        &mut self,
        machine: &Machine,
        request: Request,
        now: Picoseconds,
    ) -> Option<Picoseconds> {
        let under_way = self.request_part(machine, self.latency(machine, request));
        self.queue.push_back((request, now + under_way));
        if self.queue.len() == 1 { self.next_grant() } else { None }
    }

    /// When the first who waits gets the line.
    pub(crate) fn next_grant(&self) -> Option<Picoseconds> {
        self.queue.front().map(|(_, arrives)| self.free_at.max(*arrives))
    }

    /// Gives the line to the first who waits, now. Returns the request, and when the line arrives.
    pub(crate) fn grant(
        &mut self,
        machine: &Machine,
        now: Picoseconds,
    ) -> Option<(Request, Picoseconds)> {
        let (request, _) = self.queue.pop_front()?;
        let latency = self.latency(machine, request);
        let arrival = now + latency - self.request_part(machine, latency);
        let Request { cpu, access, cost } = request;
        match access {
            Access::Read => {
                let owner = self.owner.take();
                if let Some(owner) = owner {
                    self.sharers.insert(owner);
                }
                if self.sharers.len() == 0 {
                    self.owner = Some(cpu);
                } else {
                    self.sharers.insert(cpu);
                }
                self.free_at = now + machine.costs.read_occupancy.min(arrival - now);
            }
            Access::Write => {
                self.owner = Some(cpu);
                self.sharers.clear();
                self.free_at = arrival + machine.costs.hold.max(cost);
            }
        }
        Some((request, arrival))
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
            costs.request_percent = 20;
        })
    }

    fn of(cpu: usize, access: Access) -> Request {
        Request { cpu, access, cost: 5 }
    }

    /// The one request there is. Returns when it is granted and when the line arrives.
    fn serve(line: &mut Line, request: Request, now: Picoseconds) -> (Picoseconds, Picoseconds) {
        let at = line.enqueue(&machine(), request, now).expect("nobody else waits");
        let (granted, arrival) = line.grant(&machine(), at).expect("it waits");
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

    /// Whoever has the line uses it until the request arrives; the next request has arrived by
    /// then.
    #[test]
    fn requests_are_under_way_while_the_line_is_used() {
        let (machine, mut line) = (machine(), Line::default());
        serve(&mut line, of(0, Access::Write), 0);
        let now = 2_000_000;
        assert_eq!(line.enqueue(&machine, of(4, Access::Write), now), Some(now + 2_000));
        assert_eq!(line.enqueue(&machine, of(5, Access::Write), now + 1), None);
        assert!(line.hits(of(0, Access::Write)));
        let (first, arrival) = line.grant(&machine, now + 2_000).expect("two wait");
        assert_eq!((first.cpu, arrival), (4, now + 10_000));
        assert!(!line.hits(of(0, Access::Read)));
        assert_eq!(line.next_grant(), Some(now + 10_500));
        // From the other CPU of its cluster by now.
        let (second, arrival) = line.grant(&machine, now + 10_500).expect("one waits");
        assert_eq!((second.cpu, arrival), (5, now + 10_580));
        assert_eq!(line.next_grant(), None);
    }
}
