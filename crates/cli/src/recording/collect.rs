//! From a segment to a recording: while the program runs, after its end, or from the file of a run that was killed.
#![allow(unsafe_code)]

use super::{Frame, Header, Memory, Module, Recording, Stack, Symbol};
use crate::report::collect::BREAKPOINT_COUNT_NS;
use crate::report::counters::Counters;
use crate::report::{Row, SkippedRow, sort};
use crate::run::snapshot;
use crate::run::tables::Tables;
use stackdepot::{Handle, Reader};
use std::collections::{BTreeMap, HashMap};
use unwind::End;
use wire::{Identity, Loss, Segment, State};

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
    pub(crate) ns_per_tick: f64,
}

/// Makes the recording; frames get no symbols here but for the probed functions.
pub(crate) fn collect(tables: &Tables, known: Known) -> Recording {
    let segment = &tables.segment;
    let Known { mut header, functions, called, skipped, ns_per_tick } = known;
    let stacks = Stacks::read(segment);
    // Behind the stacks: what is counted meanwhile counts as "no stack", and no stack has more hits than its function.
    let counters = snapshot::all(tables);
    let mut recording = Recording {
        lost: Loss::ALL.iter().map(|loss| (loss.name().to_string(), segment.lost(*loss))).collect(),
        skipped,
        ..Recording::default()
    };
    header.processes = segment.processes_len() as u64;
    header.first_sights = segment.first_sights();
    header.memory = memory(tables, stacks.frames());
    let mut maker = Maker { segment, called, recording: &mut recording, frames: HashMap::new(), modules: HashMap::new() };
    let mut accounted: HashMap<u64, (u64, u64)> = HashMap::new();
    for (words, calls, ticks) in &stacks.all {
        maker.stack(words, *calls, ns(*ticks, ns_per_tick));
        let sum = accounted.entry(words[0]).or_default();
        *sum = (sum.0 + calls, sum.1.wrapping_add(*ticks));
    }
    let mut overhead = header.first_sights as f64 * FIRST_SIGHT_NS;
    for (index, (object, name)) in functions.iter().enumerate() {
        let counted = counters.get(index).cloned().unwrap_or_default();
        overhead += counted.calls as f64 * cost_ns(segment.state(index), counted.timed() > 0);
        match segment.state(index) {
            State::Detour => header.armed.0 += 1,
            State::Breakpoint => header.armed.1 += 1,
            State::Skipped | State::Pending => maker.skipped(index, object, name),
        }
        if counted.calls > 0 {
            maker.function(index, (object, name), &counted, ns_per_tick, &accounted);
        }
    }
    let sum = |rows: &[(u32, u64, u64)]| rows.iter().map(|(_, calls, _)| calls).sum::<u64>();
    let missing = sum(&recording.no_stack.functions);
    recording.no_stack.reasons = reasons(segment, missing, stacks.evicted, stacks.unreadable);
    header.overhead_ns = overhead.round() as u64;
    sort(&mut recording.functions, crate::args::Sort::Calls);
    recording.header = header;
    recording
}

/// What a hit costs, in nanoseconds: its stack one of few, as most are; medians of `trapline-bench -- probe --stack` on the machine of bench/results.
fn cost_ns(method: State, timed: bool) -> f64 {
    let breakpoint = if method == State::Breakpoint { BREAKPOINT_COUNT_NS } else { 0.0 };
    breakpoint + if timed { TIMED_NS } else { COUNTED_NS }
}

const COUNTED_NS: f64 = 31.0;
const TIMED_NS: f64 = 85.0;
const FIRST_SIGHT_NS: f64 = 3000.0;

fn ns(ticks: u64, ns_per_tick: f64) -> u64 {
    (ticks as f64 * ns_per_tick).round() as u64
}

/// The stacks of a segment.
struct Stacks {
    /// Frames as the segment has them, the innermost first and at least one; hits; ticks.
    all: Vec<(Vec<u64>, u64, u64)>,
    /// Hits of stacks that gave way to others.
    evicted: u64,
    /// Hits of stacks that could not be read.
    unreadable: u64,
}

impl Stacks {
    fn read(segment: &Segment) -> Self {
        let mut counts: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        segment.stack_counts(|count| {
            let sum = counts.entry(count.handle).or_default();
            *sum = (sum.0.wrapping_add(count.calls), sum.1.wrapping_add(count.ticks));
        });
        let evicted = counts.remove(&0).map_or(0, |(calls, _)| calls);
        let mut stacks = Self { all: Vec::with_capacity(counts.len()), evicted, unreadable: 0 };
        let reader = segment.depot().and_then(|(base, bytes)| {
            // SAFETY: a part of the segment, whose mapping lives longer than the reader.
            unsafe { Reader::new(base, bytes) }.ok()
        });
        let mut buffer = [0; 256];
        for (handle, (calls, ticks)) in counts {
            let fetched = reader.as_ref().and_then(|reader| reader.fetch(Handle::from_bits(handle), &mut buffer).ok());
            match fetched.filter(|frames| !frames.is_empty()) {
                Some(frames) => stacks.all.push((frames.to_vec(), calls, ticks)),
                None => stacks.unreadable += calls,
            }
        }
        stacks
    }

    fn frames(&self) -> u64 {
        self.all.iter().map(|(frames, ..)| frames.len() as u64).sum()
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
}

impl Maker<'_> {
    fn stack(&mut self, words: &[u64], calls: u64, self_ns: u64) {
        let (last, inner) = words.split_last().expect("no stack is empty");
        let cut = wire::Frame(*last).reason();
        let words = if cut.is_some() { inner } else { words };
        let frames: Vec<u32> = words.iter().map(|word| self.frame(*word)).collect();
        let cut = cut.map(|code| End::ALL.get(usize::from(code)).map_or("for an unknown reason", |end| end.reason()).to_string());
        if !frames.is_empty() {
            self.recording.stacks.push(Stack { frames, calls, self_ns, cut: cut.unwrap_or_default() });
        }
    }

    fn frame(&mut self, word: u64) -> u32 {
        if let Some(known) = self.frames.get(&word) {
            return *known;
        }
        let frame = wire::Frame(word);
        let module = frame.module().and_then(|index| self.module(index));
        let index = self.recording.frames.len() as u32;
        self.recording.frames.push(Frame { module, address: frame.address(), returns: frame.returns(), symbols: Vec::new() });
        self.frames.insert(word, index);
        index
    }

    fn module(&mut self, index: usize) -> Option<u32> {
        if let Some(known) = self.modules.get(&index) {
            return *known;
        }
        let found = self.segment.module(index).map(|identity| {
            let path = String::from_utf8_lossy(&identity.path).into_owned();
            let called = self.called.get(&(identity.dev, identity.ino)).filter(|name| !path.ends_with(&format!("/{name}")));
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
            (calls, ticks) = (calls + sum.0, ticks + sum.1);
        }
        let missing = (counted.calls.saturating_sub(calls), ns(counted.own.saturating_sub(ticks), ns_per_tick));
        let frames: Vec<u32> = words.iter().map(|word| self.frame(*word)).collect();
        for frame in &frames {
            // What the user asked for by name is shown by that name.
            self.recording.frames[*frame as usize].symbols = vec![Symbol { name: name.to_string(), ..Symbol::default() }];
        }
        if missing.0 > 0
            && let Some(frame) = frames.first()
        {
            self.recording.no_stack.functions.push((*frame, missing.0, missing.1));
        }
        let row = Row::new(object, name, counted, ns_per_tick).with_histogram(counted, ns_per_tick);
        self.recording.functions.push(row);
    }

    /// The frame of a probe, as stacks begin with it: one for each number that agents gave its file; one without a module if none did.
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
        let modules = (0..).map_while(|index| self.segment.module(index).map(|module| (index, module)));
        let exact = wire::Frame::exact;
        let mut words: Vec<u64> =
            modules.filter(|(_, module)| same(module)).map(|(index, _)| exact(wire::Frame::tag(index).wrapping_add(address)).0).collect();
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
        self.recording.skipped.push(SkippedRow { object: object.to_string(), name: name.to_string(), reason });
    }
}

/// Why `missing` hits have no stack.
fn reasons(segment: &Segment, missing: u64, evicted: u64, unreadable: u64) -> BTreeMap<String, u64> {
    let counted = wire::NoStack::ALL.iter().map(|why| (why.name(), segment.without_stack(*why)));
    let others = [("evicted", evicted), ("unreadable", unreadable)];
    let mut reasons: BTreeMap<String, u64> = counted.chain(others).filter(|(_, n)| *n > 0).map(|(why, n)| (why.to_string(), n)).collect();
    let rest = missing.saturating_sub(reasons.values().sum());
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
        stacks: stats.map_or(0, |stats| stats.pool_used_bytes + stats.fixed_bytes),
        frames: frames * 8,
        counters: segment.stack_table_bytes(),
    }
}
