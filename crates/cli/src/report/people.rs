//! What threads and processes are called.

use std::collections::HashMap;
use std::fs;
use wire::{Segment, StackOwner, Thread};

/// A thread that counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person<'a> {
    pub(crate) process: u32,
    /// 0: several.
    pub(crate) thread: u32,
    /// What it was called when it was heard of last; may be empty.
    pub(crate) name: &'a str,
    /// Whether it may still run.
    pub(crate) running: bool,
}

impl<'a> From<&'a Thread> for Person<'a> {
    fn from(thread: &'a Thread) -> Self {
        let Thread { pid, tid, name, running, .. } = thread;
        Self { process: *pid, thread: *tid, name, running: *running }
    }
}

impl<'a> From<&'a StackOwner> for Person<'a> {
    fn from(owner: &'a StackOwner) -> Self {
        let StackOwner { pid, tid, name, running } = owner;
        Self { process: *pid, thread: *tid, name, running: *running }
    }
}

/// Names by process and thread.
#[derive(Debug, Default)]
pub(crate) struct People {
    names: HashMap<(u32, u32), String>,
    /// The last program of each process.
    programs: HashMap<u32, String>,
}

impl People {
    /// The names that threads had when they were heard of last (at their first hit and at their
    /// end) or, where they still run, the ones that they have now: programs name their threads
    /// after they have started them.
    pub(crate) fn of<'a>(segment: &Segment, all: impl Iterator<Item = Person<'a>>) -> Self {
        let mut people = Self { programs: programs(segment), ..Self::default() };
        let mut ours: HashMap<u32, bool> = HashMap::new();
        for person in all {
            let Person { process, thread, name, running } = person;
            // Numbers are given again, and may be of another namespace: only a process that maps a
            // segment is one of these.
            let is_ours = running
                && *ours.entry(process).or_insert_with(|| {
                    fs::read_to_string(format!("/proc/{process}/maps"))
                        .is_ok_and(|maps| maps.contains("trapline"))
                });
            // What is heard of a thread of this number later is more recent.
            if !name.is_empty() {
                people.names.insert((process, thread), name.to_string());
            }
            if is_ours {
                // Of a thread that never counted, its first one is the only one that matters: it
                // names the process.
                for tid in [thread, process] {
                    if let Ok(name) = fs::read_to_string(format!("/proc/{process}/task/{tid}/comm"))
                    {
                        people.names.insert((process, tid), name.trim_end().to_string());
                    }
                }
            }
        }
        people
    }

    pub(crate) fn thread(&self, process: u32, thread: u32) -> String {
        self.names.get(&(process, thread)).cloned().unwrap_or_default()
    }

    /// A process is called what its first thread is or, where that one never counted, what its
    /// program is.
    pub(crate) fn process(&self, process: u32) -> String {
        let first = self.names.get(&(process, process));
        first.or_else(|| self.programs.get(&process)).cloned().unwrap_or_default()
    }
}

/// The names of the programs that processes said they are.
fn programs(segment: &Segment) -> HashMap<u32, String> {
    let all = (0..segment.processes_len()).filter_map(|index| segment.process(index));
    let name = |path: &[u8]| {
        let text = String::from_utf8_lossy(path).into_owned();
        text.rsplit('/').next().map(str::to_string).unwrap_or_default()
    };
    all.map(|process| (process.pid, name(&process.name))).collect()
}
