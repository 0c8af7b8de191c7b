//! The restartable sequences, access by access as in the assembly.
//!
//! Each is a loop around one run of it ([`Run`]). A run that was disturbed stops at the next
//! instruction that has an effect, as the kernel would have it, and begins anew.

use crate::CachePadded;
use crate::rseq::lifo::{Chain, Lifo, LifoSlot, Outcome};
use crate::rseq::{Gate, Refused};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use coresim::rseq::Sequence;

/// Areas are no memory here.
pub(crate) fn area() -> isize {
    0
}

/// One run of a sequence, on a CPU that the gate lets in.
struct Run {
    sequence: Sequence,
    cpu: u32,
}

/// It was disturbed.
struct Abort;

impl Run {
    /// Descriptor, entry and gate; then `work`. Anew until it is not disturbed.
    fn repeat<T>(
        gate: &Gate,
        work: impl Fn(&Self) -> Result<T, Abort>,
        refused: impl Fn(u32) -> T,
    ) -> T {
        loop {
            let Some(sequence) = Sequence::begin() else { return refused(u32::MAX) };
            let cpu = sequence.cpu() as u32;
            let run = Self { sequence, cpu };
            let open = gate.slots_open();
            let result = if cpu < open { work(&run) } else { run.checked(refused(cpu)) };
            if let Ok(result) = result {
                return result;
            }
        }
    }

    /// A value that was read, if the run goes on behind the load.
    fn checked<T>(&self, value: T) -> Result<T, Abort> {
        if self.sequence.is_disturbed() { Err(Abort) } else { Ok(value) }
    }

    /// What became of a store.
    fn stored(&self, done: bool) -> Result<(), Abort> {
        if done { Ok(()) } else { Err(Abort) }
    }

    fn done(&self, entry: u32) -> Outcome {
        Outcome { entry, cpu: self.cpu, code: 0 }
    }

    fn exit(&self, code: u32) -> Result<Outcome, Abort> {
        self.checked(Outcome { entry: 0, cpu: self.cpu, code })
    }

    fn slot<'a>(&self, lifo: Lifo<'a>) -> &'a LifoSlot {
        &lifo.slots[self.cpu as usize]
    }
}

fn refused(cpu: u32) -> Outcome {
    Outcome { entry: 0, cpu, code: Outcome::CODE_REFUSED }
}

fn depth(link: u64) -> u32 {
    (link >> 32) as u32
}

fn below(link: u64) -> u32 {
    link as u32
}

/// Adds `value` to this CPU's cell.
pub(crate) fn add(
    gate: &Gate,
    cells: &[CachePadded<AtomicU64>],
    value: u64,
) -> Result<(), Refused> {
    Run::repeat(
        gate,
        |run| {
            let cell = &cells[run.cpu as usize];
            run.stored(cell.add_within(value, &run.sequence)).map(|()| Ok(()))
        },
        |cpu| Err(Refused::of_cpu(cpu)),
    )
}

/// Pops this CPU's top entry: pops + 1; word = links[entry].
pub(crate) fn pop(lifo: Lifo<'_>) -> Outcome {
    let work = |run: &Run| {
        let slot = run.slot(lifo);
        let entry = run.checked(slot.word.load(Relaxed))?;
        if entry == 0 {
            return run.exit(Outcome::CODE_EMPTY);
        }
        run.stored(slot.pops.add_within(1, &run.sequence))?;
        let link = run.checked(lifo.links[entry as usize].load(Relaxed))?;
        run.stored(slot.word.store_within(below(link), &run.sequence))?;
        Ok(run.done(entry))
    };
    Run::repeat(lifo.gate, work, refused)
}

/// Pushes an entry: links[entry] = (depth of links[word] + 1, word); word = entry.
pub(crate) fn push(lifo: Lifo<'_>, entry: u32) -> Outcome {
    let work = |run: &Run| {
        let slot = run.slot(lifo);
        let head = run.checked(slot.word.load(Relaxed))?;
        let depth = depth(run.checked(lifo.links[head as usize].load(Relaxed))?);
        if depth >= lifo.limit {
            return run.exit(Outcome::CODE_FULL);
        }
        // In two halves, as there.
        let high = u64::from(depth + 1) << 32;
        for link in [high, high | u64::from(head)] {
            run.stored(lifo.links[entry as usize].store_within(link, &run.sequence))?;
        }
        run.stored(slot.word.store_within(entry, &run.sequence))?;
        Ok(run.done(entry))
    };
    Run::repeat(lifo.gate, work, refused)
}

/// Detaches the top `len` entries: pops + 1; word = links[the last of them].
pub(crate) fn split(lifo: Lifo<'_>, len: u32) -> Outcome {
    let work = |run: &Run| {
        let slot = run.slot(lifo);
        let head = run.checked(slot.word.load(Relaxed))?;
        if depth(run.checked(lifo.links[head as usize].load(Relaxed))?) < len {
            return run.exit(Outcome::CODE_EMPTY);
        }
        let mut rest = head;
        for _ in 0..len {
            rest = below(run.checked(lifo.links[rest as usize].load(Relaxed))?);
        }
        run.stored(slot.pops.add_within(1, &run.sequence))?;
        run.stored(slot.word.store_within(rest, &run.sequence))?;
        Ok(run.done(head))
    };
    Run::repeat(lifo.gate, work, refused)
}

/// Makes a chain the list, if the list is empty: links[tail] = (1, 0), word = the chain's head.
pub(crate) fn install(lifo: Lifo<'_>, chain: Chain) -> Outcome {
    let work = |run: &Run| {
        let slot = run.slot(lifo);
        if run.checked(slot.word.load(Relaxed))? != 0 {
            return run.exit(Outcome::CODE_FULL);
        }
        let tail = &lifo.links[chain.tail as usize];
        run.stored(tail.store_within(1 << 32, &run.sequence))?;
        run.stored(slot.word.store_within(chain.head, &run.sequence))?;
        Ok(run.done(chain.head))
    };
    Run::repeat(lifo.gate, work, refused)
}
