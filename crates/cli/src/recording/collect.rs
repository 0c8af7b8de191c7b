//! From a segment to a recording: while the program runs, after its end, or from the file of a run
//! that was killed.
#![allow(unsafe_code)]

use crate::model::counters::{Counters, sum};
use crate::model::outside::{Inlined, Overwritten};
use crate::model::recording::{Frame, Header, Memory, Module, Recording, Stack, Symbol, Thread};
use crate::model::report::{Row, SkippedRow, sort};
use crate::report::cost::Cost;
use crate::report::outside::{not_followed, still_running};
use crate::report::people::{People, Person};
use crate::run::snapshot;
use crate::run::tables::Tables;
use stackdepot::{Handle, Reader};
use std::collections::{BTreeMap, HashMap};
use unwind::End;
use wire::{Identity, Loss, Segment, StackOwner, State};

/// What the segment does not know.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) header: Header,
    /// Object and name of each function of the segment, by index.
    pub(crate) functions: Vec<(String, String)>,
    /// What programs and libraries were called, by device and inode.
    pub(crate) called: HashMap<(u64, u64), String>,
    /// Functions that were left alone before the segment was made.
    pub(crate) skipped: Vec<SkippedRow>,
    /// Functions that are inlined, too, and whether those are not all.
    pub(crate) also_inlined: (Vec<Inlined>, bool),
    pub(crate) ns_per_tick: f64,
}

/// Makes the recording; frames get no symbols here but for the probed functions.
pub(crate) fn collect(tables: &Tables, known: Known) -> Recording {
    let segment = &tables.segment;
    let Known { mut header, functions, called, skipped, also_inlined, ns_per_tick } = known;
    let (also_inlined, inlined_partly) = also_inlined;
    let stacks = Stacks::read(segment);
    // Behind the stacks: what is counted meanwhile counts as "no stack", and no stack has more hits
    // than its function.
    let counters = snapshot::all(tables);
    let mut recording = Recording {
        lost: Loss::ALL.iter().map(|loss| (loss.name().to_string(), segment.lost(*loss))).collect(),
        skipped,
        not_followed: not_followed(tables),
        still_running: still_running(tables),
        also_inlined,
        inlined_partly,
        ..Recording::default()
    };
    header.processes = segment.processes();
    header.first_sights = segment.first_sights();
    header.memory = memory(tables, stacks.frames());
    let mut maker = Maker {
        segment,
        called,
        recording: &mut recording,
        frames: HashMap::new(),
        modules: HashMap::new(),
        numbers: segment.modules().collect(),
    };
    let mut accounted: HashMap<u64, (u64, u64)> = HashMap::new();
    for counted in &stacks.all {
        maker.stack(counted, ns_per_tick);
        let sum = accounted.entry(counted.words[0]).or_default();
        let (calls, ticks) = counted.sum;
        *sum = (sum.0.saturating_add(calls), sum.1.wrapping_add(ticks));
    }
    maker.recording.threads = stacks.threads(segment);
    let cost = Cost::here(ns_per_tick);
    let mut overhead = header.first_sights as f64 * cost.first_sight();
    for (index, (object, name)) in functions.iter().enumerate() {
        let counted = counters.get(index).cloned().unwrap_or_default();
        overhead +=
            counted.calls as f64 * cost_ns(&cost, segment.state(index), counted.timed() > 0);
        match segment.state(index) {
            State::Detour => header.armed.0 += 1,
            State::Breakpoint => header.armed.1 += 1,
            State::Skipped | State::Pending => maker.skipped(index, object, name),
        }
        if segment.reason(index) == wire::OVERWRITTEN {
            let (object, name) = (object.clone(), name.clone());
            maker.recording.overwritten.push(Overwritten { object, name });
        }
        if counted.calls > 0 {
            maker.function(index, (object, name), &counted, ns_per_tick, &accounted);
        }
    }
    let missing = sum(recording.no_stack.functions.iter().map(|(_, calls, _)| *calls));
    recording.no_stack.reasons = reasons(segment, missing, stacks.evicted, stacks.unreadable);
    header.overhead_ns = overhead.round() as u64;
    sort(&mut recording.functions, crate::model::report::Sort::Calls);
    recording.header = header;
    recording
}

/// What a hit costs, in nanoseconds: its stack one of few, as most are.
fn cost_ns(cost: &Cost, method: State, timed: bool) -> f64 {
    let breakpoint = if method == State::Breakpoint { cost.trap() } else { 0.0 };
    breakpoint + cost.recorded(timed)
}

fn ns(ticks: u64, ns_per_tick: f64) -> u64 {
    (ticks as f64 * ns_per_tick).round() as u64
}

/// Hits and ticks.
type Sum = (u64, u64);

fn add(sum: &mut Sum, calls: u64, ticks: u64) {
    *sum = (sum.0.wrapping_add(calls), sum.1.wrapping_add(ticks));
}

/// What was counted of one stack.
struct Counted {
    /// Frames as the segment has them, the innermost first and at least one.
    words: Vec<u64>,
    sum: Sum,
    /// By index of the thread.
    by_thread: BTreeMap<u32, Sum>,
}

/// The stacks of a segment.
struct Stacks {
    all: Vec<Counted>,
    /// The threads that counted them, each once.
    owners: Vec<StackOwner>,
    /// Hits of stacks that gave way to others.
    evicted: u64,
    /// Hits of stacks that could not be read.
    unreadable: u64,
}

impl Stacks {
    fn read(segment: &Segment) -> Self {
        let mut counts: BTreeMap<u32, BTreeMap<u32, Sum>> = BTreeMap::new();
        let mut evicted = 0_u64;
        let mut owners: Vec<StackOwner> = Vec::new();
        let mut known: HashMap<(u32, u32), u32> = HashMap::new();
        segment.stack_counts_by_owner(|owner, count| {
            if count.handle == 0 {
                evicted = evicted.wrapping_add(count.calls);
                return;
            }
            let index = *known.entry((owner.pid, owner.tid)).or_insert_with(|| {
                owners.push(owner.clone());
                owners.len() as u32 - 1
            });
            if owner.running {
                owners[index as usize] = owner.clone();
            }
            let of_stack = counts.entry(count.handle).or_default();
            add(of_stack.entry(index).or_default(), count.calls, count.ticks);
        });
        let mut stacks =
            Self { all: Vec::with_capacity(counts.len()), owners, evicted, unreadable: 0 };
        let reader = segment.depot().and_then(|(base, bytes)| {
            // SAFETY: a part of the segment, whose mapping lives longer than the reader.
            unsafe { Reader::new(base, bytes) }.ok()
        });
        let mut buffer = [0; 256];
        for (handle, by_thread) in counts {
            let mut sum = Sum::default();
            by_thread.values().for_each(|(calls, ticks)| add(&mut sum, *calls, *ticks));
            let fetched = reader
                .as_ref()
                .and_then(|reader| reader.fetch(Handle::from_bits(handle), &mut buffer).ok());
            match fetched.filter(|frames| !frames.is_empty()) {
                Some(frames) => stacks.all.push(Counted { words: frames.to_vec(), sum, by_thread }),
                None => stacks.unreadable = stacks.unreadable.saturating_add(sum.0),
            }
        }
        stacks
    }

    /// The threads as a recording has them.
    fn threads(&self, segment: &Segment) -> Vec<Thread> {
        let people = People::of(segment, self.owners.iter().map(Person::from));
        let thread = |owner: &StackOwner| Thread {
            process: owner.pid,
            thread: owner.tid,
            process_name: people.process(owner.pid),
            thread_name: people.thread(owner.pid, owner.tid),
        };
        self.owners.iter().map(thread).collect()
    }

    fn frames(&self) -> u64 {
        self.all.iter().map(|counted| counted.words.len() as u64).sum()
    }
}

/// Puts stacks and functions into a recording, each frame and module once.
struct Maker<'a> {
    segment: &'a Segment,
    called: HashMap<(u64, u64), String>,
    recording: &'a mut Recording,
    frames: HashMap<u64, u32>,
    /// By index in the segment.
    modules: HashMap<usize, Option<u32>>,
    /// Files that agents gave a number, with it.
    numbers: Vec<(usize, Identity)>,
}

impl Maker<'_> {
    fn stack(&mut self, counted: &Counted, ns_per_tick: f64) {
        let words = &counted.words[..];
        let (last, inner) = words.split_last().expect("no stack is empty");
        let cut = wire::Frame(*last).reason();
        let words = if cut.is_some() { inner } else { words };
        let frames: Vec<u32> = words.iter().map(|word| self.frame(*word)).collect();
        let cut = cut.map(|code| {
            End::ALL
                .get(usize::from(code))
                .map_or("for an unknown reason", |end| end.reason())
                .to_string()
        });
        if !frames.is_empty() {
            let (calls, ticks) = counted.sum;
            let mut before = 0_u64;
            // Rounded so that the parts add up to the whole.
            let part = |(thread, &(calls, ticks)): (&u32, &Sum)| {
                let after = before.wrapping_add(ticks);
                let ns = ns(after, ns_per_tick).saturating_sub(ns(before, ns_per_tick));
                before = after;
                (*thread, calls, ns)
            };
            self.recording.stacks.push(Stack {
                frames,
                calls,
                self_ns: ns(ticks, ns_per_tick),
                cut: cut.unwrap_or_default(),
                threads: counted.by_thread.iter().map(part).collect(),
            });
        }
    }

    fn frame(&mut self, word: u64) -> u32 {
        if let Some(known) = self.frames.get(&word) {
            return *known;
        }
        let frame = wire::Frame(word);
        let module = frame.module().and_then(|index| self.module(index));
        let index = self.recording.frames.len() as u32;
        self.recording.frames.push(Frame {
            module,
            address: frame.address(),
            returns: frame.returns(),
            symbols: Vec::new(),
        });
        self.frames.insert(word, index);
        index
    }

    fn module(&mut self, index: usize) -> Option<u32> {
        if let Some(known) = self.modules.get(&index) {
            return *known;
        }
        let found = self.segment.module(index).map(|identity| {
            let path = String::from_utf8_lossy(&identity.path).into_owned();
            let called = self
                .called
                .get(&(identity.dev, identity.ino))
                .filter(|name| !path.ends_with(&format!("/{name}")));
            self.recording.modules.push(Module {
                called: called.cloned().unwrap_or_default(),
                path,
                build_id: identity.build_id.iter().map(|byte| format!("{byte:02x}")).collect(),
                device: identity.dev,
                inode: identity.ino,
            });
            self.recording.modules.len() as u32 - 1
        });
        self.modules.insert(index, found);
        found
    }

    /// A function that was called.
    fn function(
        &mut self,
        index: usize,
        (object, name): (&str, &str),
        counted: &Counters,
        ns_per_tick: f64,
        accounted: &HashMap<u64, (u64, u64)>,
    ) {
        let words = self.words_of(index);
        let (mut calls, mut ticks) = (0, 0);
        for sum in words.iter().filter_map(|word| accounted.get(word)) {
            (calls, ticks) = (u64::saturating_add(calls, sum.0), u64::wrapping_add(ticks, sum.1));
        }
        let missing = (
            counted.calls.saturating_sub(calls),
            ns(counted.own.saturating_sub(ticks), ns_per_tick),
        );
        let frames: Vec<u32> = words.iter().map(|word| self.frame(*word)).collect();
        for frame in &frames {
            // What the user asked for by name is shown by that name.
            self.recording.frames[*frame as usize].symbols =
                vec![Symbol { name: name.to_string(), ..Symbol::default() }];
        }
        if missing.0 > 0
            && let Some(frame) = frames.first()
        {
            self.recording.no_stack.functions.push((*frame, missing.0, missing.1));
        }
        let row = Row::new(object, name, counted, ns_per_tick).with_histogram(counted, ns_per_tick);
        self.recording.functions.push(row);
    }

    /// The frame of a probe, as stacks begin with it: one for each number that agents gave its
    /// file; one without a module if none did.
    fn words_of(&self, index: usize) -> Vec<u64> {
        let Some(function) = self.segment.function(index) else { return Vec::new() };
        let address = function.address.wrapping_add(u64::from(function.offset));
        let file = self.segment.object_of(index).and_then(|object| self.segment.object(object));
        let same = |module: &Identity| {
            file.as_ref().is_some_and(|file| {
                (file.ino != 0 && (file.dev, file.ino) == (module.dev, module.ino))
                    || (!file.build_id.is_empty() && file.build_id == module.build_id)
            })
        };
        let exact = wire::Frame::exact;
        let mut words: Vec<u64> = self
            .numbers
            .iter()
            .filter(|(_, module)| same(module))
            .map(|(index, _)| exact(wire::Frame::tag(*index).wrapping_add(address)).0)
            .collect();
        if words.is_empty() {
            words.push(exact(address).0);
        }
        words
    }

    fn skipped(&mut self, index: usize, object: &str, name: &str) {
        let reason = match self.segment.state(index) {
            State::Pending => "its object was not loaded while recording went on".to_string(),
            _ => self.segment.reason(index),
        };
        self.recording.skipped.push(SkippedRow {
            object: object.to_string(),
            name: name.to_string(),
            reason,
        });
    }
}

/// Why `missing` hits have no stack.
fn reasons(
    segment: &Segment,
    missing: u64,
    evicted: u64,
    unreadable: u64,
) -> BTreeMap<String, u64> {
    let counted = wire::NoStack::ALL.iter().map(|why| (why.name(), segment.without_stack(*why)));
    let others = [("evicted", evicted), ("unreadable", unreadable)];
    let mut reasons: BTreeMap<String, u64> = counted
        .chain(others)
        .filter(|(_, n)| *n > 0)
        .map(|(why, n)| (why.to_string(), n))
        .collect();
    let rest = missing.saturating_sub(sum(reasons.values().copied()));
    if rest > 0 {
        reasons.insert("in the making".to_string(), rest);
    }
    reasons
}

fn memory(tables: &Tables, frames: u64) -> Memory {
    let segment = &tables.segment;
    let stats = segment.depot().and_then(|(base, bytes)| {
        // SAFETY: as in `Stacks::read`.
        unsafe { Reader::new(base, bytes) }.ok().map(|reader| reader.stats())
    });
    Memory {
        total: segment.agent_bytes().saturating_add(tables.bytes()),
        stacks: stats.map_or(0, |stats| stats.pool_used_bytes.saturating_add(stats.fixed_bytes)),
        frames: frames * 8,
        counters: segment.stack_table_bytes(),
    }
}
