//! A segment, by both of its sides: the one that says what is to be counted and reads, and the one
//! that counts.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use stackdepot::{Depot, Flags, NoEviction, Reader, Region};
use sys::file::{MFD_CLOEXEC, memfd_create};
use sys::thread::gettid;
use wire::{
    Descriptor, Files, Function, Identity, Kind, Loss, Owner, Patience, Segment, Shape, Stacks,
    State, cell,
};

const SHAPE: Shape = Shape {
    objects: 4,
    functions: 4,
    blocks: 4,
    cell_bytes: 4096,
    budget: 64 << 20,
    per_thread: false,
    scarce: false,
    stacks: Some(STACKS),
};

/// Room for the stacks of these programs.
pub(crate) const STACKS: Stacks = Stacks {
    depot_bytes: 4 << 20,
    counts_bytes: 1 << 20,
    depth: 100,
    frame_pointers: false,
    timed: false,
    evict: false,
};

/// Both sides.
pub(crate) struct Recording {
    file: Descriptor<'static>,
    command_line: Segment,
    agent: &'static Segment,
    depot: Depot<NoEviction>,
}

impl Recording {
    pub(crate) fn new() -> Self {
        let file = memfd_create(c"segment", MFD_CLOEXEC).expect("a memory file");
        // SAFETY: never closed.
        let file = unsafe { Descriptor::borrow(file) };
        let command_line = Segment::create_in(Files::one(file), SHAPE).expect("a segment");
        let cell = command_line.add_cell(cell::COUNT_BYTES).expect("room");
        let (kind, returns) = (Kind::Count, true);
        let function =
            Function { address: 0x1000, size: 32, after: 4, offset: 0, kind, returns, cell };
        command_line.add_function(0, &function).expect("room");
        let identity = Identity { ino: 7, ..Identity::default() };
        command_line.add_object(&identity, 0..1, b"plans").expect("room");

        let agent = Segment::attach(Files::one(file), |_| 0x2000_0000_0000).expect("the segment");
        let agent: &'static Segment = Box::leak(Box::new(agent));
        let object = agent.find_object(&identity).expect("known by its inode");
        assert_eq!((agent.functions_of(object), &*agent.plans_of(object)), (0..1, &b"plans"[..]));
        assert_eq!(agent.function(0), Some(function));
        agent.set_state(0, State::Detour, "");

        let (base, bytes) = agent.depot_region().expect("room for stacks");
        let reach = Box::leak(Box::new(|end| agent.reach_depot(end)));
        // SAFETY: the part of the segment for it, which nobody else uses, mapped as far as `reach`
        // says.
        let region = unsafe { Region::growing(base, bytes, reach) };
        let builder = Depot::builder().max_depth(100).expected_stacks(1000).no_eviction();
        let depot = builder.build_in(region).expect("room for a depot");
        Self { file, command_line, agent, depot }
    }

    /// Counts a hit with this stack, and reads both.
    pub(crate) fn count(&self, stack: &[u64]) {
        let (agent, command_line) = (self.agent, &self.command_line);
        let block = agent.take_block(Owner::current(), gettid().cast_unsigned()).expect("a block");
        agent.name_block(block, gettid().cast_unsigned(), b"first");
        let function = command_line.function(0).expect("added");
        let (cells, bytes) = agent.cells(block).expect("just taken");
        assert!(bytes >= function.cell as usize + cell::COUNT_BYTES);
        // SAFETY: inside the block's cells.
        let calls = unsafe { cells.add(function.cell as usize + cell::CALLS) };
        // SAFETY: aligned and mapped, and written by atomics only.
        let calls: &AtomicU64 = unsafe { calls.cast().as_ref() };
        calls.fetch_add(1, Ordering::Relaxed);

        let handle = self.depot.save(stack, Flags::CAN_GROW).to_bits();
        let table = agent.new_stack_table(block, 8).expect("room");
        let (cell, _) = table.find(handle).expect("an empty table");
        cell.calls.fetch_add(1, Ordering::Relaxed);
        cell.handle.store(handle, Ordering::Release);
        agent.lose(Loss::Depth, 3);

        assert_eq!(command_line.state(0), State::Detour);
        assert_eq!(command_line.lost(Loss::Depth), 3);
        let place = command_line.block_range(block).expect("a block");
        let view = command_line.view(self.file, block, &place).expect("mapped");
        assert_eq!(view.counts(&function).calls, 1);
        let thread = command_line.thread(block).expect("it counts");
        assert!(thread.running && thread.name == "first");
        let mut seen = 0;
        command_line.stack_counts(|count| {
            seen += u64::from((count.handle, count.calls) == (handle, 1));
        });
        assert_eq!(seen, 1);
        let (base, bytes) = command_line.depot().expect("there are stacks");
        // SAFETY: the segment stays mapped.
        let reader = unsafe { Reader::new(base, bytes) }.expect("a depot");
        let mut frames = [0; 100];
        let handle = stackdepot::Handle::from_bits(handle);
        assert_eq!(reader.fetch(handle, &mut frames).expect("saved"), stack);

        // Nobody answers.
        let patience =
            Patience { idle: Duration::from_millis(2), longest: Duration::from_secs(60) };
        let asked = agent.ask(1, &Identity::default(), 0x1000, patience, || true);
        assert_eq!(asked, Err(()));
        agent.release_block(block);
        assert!(!command_line.thread(block).expect("it has counted").running);
    }
}
