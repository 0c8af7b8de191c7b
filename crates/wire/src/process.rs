//! Processes that carry an agent, as they said themselves.

use crate::layout::{PROCESSES, count};
use crate::segment::Segment;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

const PID: usize = 0;
const PARENT: usize = 4;
const DETOURS: usize = 8;
const BREAKPOINTS: usize = 12;
const ARMING_NS: usize = 16;
const NAME: usize = 64;
const NAME_ROOM: usize = 192;

/// A process that carries an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Functions armed by a jump.
    pub detours: u32,
    /// Functions armed by a breakpoint.
    pub breakpoints: u32,
    /// Time that arming took at its start, in nanoseconds.
    pub arming_ns: u64,
    /// Path of its program.
    pub name: Vec<u8>,
}

impl Segment {
    /// Adds a process (a program that started, a fork's child). None: the table is full, which
    /// harms nothing.
    ///
    /// # Context
    /// No system call, no allocation.
    pub fn add_process(&self, process: &Process) -> Option<usize> {
        // Relaxed: an entry is its caller's alone until the pid says that it is complete.
        let index = self.fixed.u64(count::PROCESSES_LEN)?.fetch_add(1, Ordering::Relaxed) as usize;
        let at = self.layout.process(index)?;
        self.fixed.put_bytes(
            at + NAME,
            NAME_ROOM,
            process.name.get(..NAME_ROOM - 1).unwrap_or(&process.name),
        );
        self.fixed.store32(at + PARENT, process.parent);
        self.update_process(index, process.detours, process.breakpoints, process.arming_ns);
        // Release pairs with the Acquire in `process`.
        self.fixed.u32(at + PID)?.store(process.pid, Ordering::Release);
        Some(index)
    }

    /// Corrects what a process said of itself.
    pub fn update_process(&self, index: usize, detours: u32, breakpoints: u32, arming_ns: u64) {
        if let Some(at) = self.layout.process(index) {
            self.fixed.store32(at + DETOURS, detours);
            self.fixed.store32(at + BREAKPOINTS, breakpoints);
            self.fixed.store64(at + ARMING_NS, arming_ns);
        }
    }

    /// Processes that there have been, whether or not the table had room for them.
    pub fn processes(&self) -> u64 {
        self.fixed.load64(count::PROCESSES_LEN)
    }

    /// Processes that were added, up to the table's end.
    pub fn processes_len(&self) -> usize {
        (self.fixed.load64(count::PROCESSES_LEN) as usize).min(PROCESSES)
    }

    /// The process at `index`, if its entry is complete. Allocates.
    pub fn process(&self, index: usize) -> Option<Process> {
        let at = self.layout.process(index)?;
        // Acquire pairs with the Release in `add_process`.
        let pid = self.fixed.u32(at + PID)?.load(Ordering::Acquire);
        (pid != 0).then(|| Process {
            pid,
            parent: self.fixed.load32(at + PARENT),
            detours: self.fixed.load32(at + DETOURS),
            breakpoints: self.fixed.load32(at + BREAKPOINTS),
            arming_ns: self.fixed.load64(at + ARMING_NS),
            name: self.fixed.get_bytes(at + NAME, NAME_ROOM),
        })
    }
}

const _: () =
    assert!(NAME + NAME_ROOM <= crate::layout::PROCESS_BYTES, "a process's name fits its entry");
