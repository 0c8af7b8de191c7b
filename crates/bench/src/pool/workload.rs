//! The two loops that are measured.

use super::case::{BULK, Flow, PoolCase};
use super::handover::Handover;
use super::source::{Raw, RawSource, Source, write};
use crate::harness::{Entry, Job, Meter, Role, Seat};

/// Get, write and give back on one thread.
pub(super) fn same_thread<S: Source>(source: S, case: &PoolCase) -> Job {
    let bulk = case.bulk;
    Box::new(
        move |seat, meter| {
            if bulk == 1 { singly(&source, seat, meter) } else { in_bulk(&source, seat, meter) }
        },
    )
}

fn singly<S: Source>(source: &S, seat: Seat, meter: &mut Meter<'_>) {
    let mut misses = 0;
    meter.run_counting(|ops| {
        let mut refused = 0;
        for _ in 0..ops {
            match source.take() {
                Some(mut item) => {
                    S::write(&mut item, seat.index as u64);
                    source.give(item);
                }
                None => refused += 1,
            }
        }
        misses += refused;
        ops - refused
    });
    meter.add_misses(misses);
}

fn in_bulk<S: Source>(source: &S, seat: Seat, meter: &mut Meter<'_>) {
    let mut misses = 0;
    let mut held: [Option<S::Item<'_>>; BULK] = std::array::from_fn(|_| None);
    meter.run_counting(|ops| {
        let mut done = 0;
        for _ in 0..ops / BULK as u64 {
            for place in &mut held {
                *place = source.take();
                match place {
                    Some(item) => S::write(item, seat.index as u64),
                    None => misses += 1,
                }
            }
            for item in held.iter_mut().filter_map(Option::take) {
                source.give(item);
                done += 1;
            }
        }
        done
    });
    meter.add_misses(misses);
}

/// Get and write on even seats, give back on odd ones.
pub(super) fn handed_over<S: RawSource>(source: S, case: &PoolCase) -> Job {
    let bulk = case.bulk as u64;
    let shared = Handover::new(source, case.threads / 2);
    Box::new(move |seat, meter| {
        let (ring, source) = (shared.ring(seat.index / 2), shared.source());
        if seat.index.is_multiple_of(2) {
            let mut misses = 0;
            meter.run_counting(|ops| {
                for _ in 0..ops / bulk {
                    if ring.room() < bulk {
                        ring.wait(seat);
                        continue;
                    }
                    for _ in 0..bulk {
                        match source.take() {
                            Some(object) => {
                                write(object, seat.index as u64);
                                ring.put(object);
                            }
                            None => misses += 1,
                        }
                    }
                }
                0 // counted where they arrive
            });
            meter.add_misses(misses);
        } else {
            meter.run_counting(|ops| {
                let mut done = 0;
                for _ in 0..ops / bulk {
                    if ring.filled() == 0 {
                        ring.wait(seat);
                        continue;
                    }
                    for _ in 0..bulk {
                        let Some(object) = ring.get() else { break };
                        source.give(object);
                        done += 1;
                    }
                }
                done
            });
        }
    })
}

/// A contender that deals in plain pointers: measured in both flows.
pub(super) fn raw<S: RawSource>(
    name: &str,
    role: Role,
    make: impl Fn(&PoolCase) -> Option<S> + 'static,
) -> Entry<PoolCase> {
    Entry::new(name, role, move |case: &PoolCase| {
        let source = make(case)?;
        Some(match case.flow {
            Flow::SameThread => same_thread(Raw(source), case),
            Flow::HandedOver => handed_over(source, case),
        })
    })
}
