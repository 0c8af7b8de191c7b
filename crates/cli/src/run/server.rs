//! Answers agents: objects that appear during the run (dlopen, exec) are resolved here, out of process, and their functions added to the segment.

use super::tables::{Armed, Tables};
use crate::resolve::Resolution;
use crate::symbols::object::Object;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::{Identity, Request};

/// How long one look at the bell lasts. Every agent rings it; this is for those that died between asking and ringing.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the server changes and the report reads.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) resolution: Resolution,
    /// By index of the segment's functions.
    pub(crate) armed: Vec<Armed>,
    /// Where the objects of the resolution are in the segment; none for those that had no room.
    places: Vec<Option<usize>>,
    /// Functions for which the segment had no room.
    pub(crate) left_out: usize,
}

/// The state, shared by who serves and who reports.
#[derive(Debug)]
pub(crate) struct Server {
    state: Mutex<State>,
}

impl Server {
    /// Puts all that is known into the segment.
    pub(crate) fn new(resolution: Resolution, tables: &Tables) -> Self {
        let mut state = State { armed: Vec::new(), places: Vec::new(), left_out: 0, resolution };
        for index in 0..state.resolution.objects.len() {
            state.add(index, tables);
        }
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers for as long as the process lives.
    pub(crate) fn serve(&self, tables: &Tables) -> ! {
        let mut seen = 0;
        loop {
            seen = tables.segment.wait_for_requests(seen, PATIENCE);
            for request in tables.segment.requests() {
                let answer = self.resolve(&request, tables);
                tables.segment.answer(&request, answer);
            }
        }
    }

    /// The place in the segment of the object that is asked for; added if it is new, also when nothing of it is to be probed, so that nobody asks again.
    fn resolve(&self, request: &Request, tables: &Tables) -> Option<usize> {
        let asked = &request.object;
        if let Some(known) = tables.segment.find_object(asked.dev, asked.ino, &asked.build_id) {
            return Some(known);
        }
        let object = open(asked, request.pid)?;
        let state = &mut *self.state();
        let index = state.resolution.appeared(object);
        if index == state.places.len() {
            state.add(index, tables);
        }
        state.places[index]
    }
}

impl State {
    /// Adds the object at `index`, the next one, to the segment.
    fn add(&mut self, index: usize, tables: &Tables) {
        let (place, left_out) = tables.add(&self.resolution, index, &mut self.armed);
        self.places.push(place);
        self.left_out += left_out;
    }
}

/// The file that the process has mapped: by its path, or by its path as the process sees it.
fn open(asked: &Identity, pid: u32) -> Option<Object> {
    let path = Path::new(OsStr::from_bytes(&asked.path));
    if !path.is_absolute() {
        return None;
    }
    let seen_by_process = PathBuf::from(format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap_or(path));
    let same = |object: &Object| {
        (object.device, object.inode) == (asked.dev, asked.ino)
            || (!asked.build_id.is_empty() && object.elf.build_id() == Some(&asked.build_id[..]))
    };
    let usable = |opened: anyhow::Result<Result<Object, _>>| opened.ok()?.ok().filter(same);
    usable(Object::open(path)).or_else(|| usable(Object::open_elsewhere(path, &seen_by_process)))
}
