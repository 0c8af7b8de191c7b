//! What hits of probes do to lines. The engine's hit path is assembly and signal frames, which no
//! model runs: these are its reads and writes, of a program whose threads all come by the same
//! sites.

use crate::load::Load;
use coresim::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use coresim::{Throughput, thread, time};
use percpu::CachePadded;

/// Functions that a request comes by, and sites that a thread takes in turn.
const SITES: usize = 64;

/// A thread's block of cells.
type Block = Box<[CachePadded<[AtomicU64; 8]>]>;

fn block() -> Block {
    (0..SITES / 8).map(|_| CachePadded::default()).collect()
}

fn cell(block: &Block, site: usize) -> &AtomicU64 {
    &block[site / 8][site % 8]
}

/// A request that comes by all sites, each a detour that counts in the thread's own block.
pub(super) fn in_blocks(load: &Load<'_>) -> Throughput {
    let work = load.work;
    load.each(
        || (),
        |(), _| block(),
        move |(), block| {
            for site in 0..SITES {
                // As `inc` does: not locked.
                let cell = cell(block, site);
                cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            time::work(work);
        },
    )
}

/// The same with one cell for each site, which all threads add to: what probes without blocks do.
pub(super) fn in_one_block(load: &Load<'_>) -> Throughput {
    let work = load.work;
    load.shared(block, move |block| {
        for site in 0..SITES {
            cell(block, site).fetch_add(1, Ordering::Relaxed);
        }
        time::work(work);
    })
}

/// Bytes of a slot as words: one line.
type Slot = CachePadded<[AtomicU64; 8]>;

/// What the kernel has for one process: slots, and a bit for each that is taken.
struct Area {
    taken: Box<[AtomicU64]>,
    slots: Box<[Slot]>,
    /// What is known of the sites: read only.
    sites: Box<[CachePadded<AtomicU64>]>,
}

impl Area {
    fn new(slots: usize) -> Self {
        Self {
            taken: (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            sites: (0..SITES).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Takes the first slot that is free.
    fn take(&self) -> usize {
        loop {
            for (number, word) in self.taken.iter().enumerate() {
                let now = word.load(Ordering::Relaxed);
                let bit = now.trailing_ones() as usize;
                let mine = |bit: usize| {
                    word.compare_exchange(now, now | 1 << bit, Ordering::Acquire, Ordering::Relaxed)
                };
                if bit < 64 && number * 64 + bit < self.slots.len() && mine(bit).is_ok() {
                    return number * 64 + bit;
                }
            }
        }
    }

    fn give_back(&self, slot: usize) {
        self.taken[slot / 64].fetch_and(!(1 << (slot % 64)), Ordering::Release);
    }

    /// The copy of an instruction and what leads back: two words.
    fn fill(&self, slot: usize) {
        for word in &self.slots[slot][..2] {
            word.store(1, Ordering::Relaxed);
        }
    }
}

/// Who comes by the sites in turn.
struct Visitor {
    next: usize,
    counts: Block,
}

/// One hit by breakpoint after the other, of which `place` finds where the copy runs. The trap is
/// the work.
fn hits<O: 'static>(
    load: &Load<'_>,
    slots: usize,
    own: impl Fn(&Area) -> O + Send + Sync + 'static,
    place: impl Fn(&Area, &mut O, usize) + Send + Sync + 'static,
) -> Throughput {
    let work = load.work;
    load.each(
        move || Area::new(slots),
        move |area, _| (Visitor { next: 0, counts: block() }, own(area)),
        move |area, (visitor, own)| {
            let site = visitor.next;
            visitor.next = (site + 1) % SITES;
            area.sites[site].load(Ordering::Relaxed);
            let count = cell(&visitor.counts, site);
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            time::work(work);
            place(area, own, site);
        },
    )
}

/// A slot for each hit.
pub(super) fn per_hit(load: &Load<'_>) -> Throughput {
    hits(
        load,
        4 * load.threads.max(16),
        |_| (),
        |area, (), _| {
            let slot = area.take();
            area.fill(slot);
            area.give_back(slot);
        },
    )
}

/// A slot that a thread keeps, and fills when it comes by another site: always, here.
pub(super) fn sticky(load: &Load<'_>) -> Throughput {
    hits(load, 4 * load.threads.max(16), Area::take, |area, slot, _| area.fill(*slot))
}

/// A thread's map from sites to slots that it has filled: the posted cache of breakpoints.
pub(super) fn cache(load: &Load<'_>) -> Throughput {
    let own = |_: &Area| -> (Box<[CachePadded<AtomicU32>]>, AtomicUsize) {
        ((0..SITES).map(|_| CachePadded::default()).collect(), AtomicUsize::new(0))
    };
    hits(load, SITES * load.threads, own, |area, (map, filled), site| {
        let entry = &map[site];
        if entry.load(Ordering::Relaxed) == 0 {
            entry.store(1, Ordering::Relaxed);
            filled.fetch_add(1, Ordering::Relaxed);
            area.fill((thread::cpu() * SITES + site) % area.slots.len());
        }
    })
}

/// The site's own slot, which nobody writes any more.
pub(super) fn permanent(load: &Load<'_>) -> Throughput {
    hits(load, SITES, |_| (), |_, (), _| ())
}
