//! Answers agents: objects that appear during the run (dlopen, exec) are resolved here, out of
//! process, and their functions added to the segment.

use super::loaded::unknown;
use super::opened;
use super::tables::{Armed, Tables, identity};
use super::tend::tend;
use crate::model::report::SkippedRow;
use crate::out::say;
use crate::planning;
use crate::processes;
use crate::resolve::Resolution;
use crate::symbols::object::Object;
use anyhow::Context as _;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::{Identity, Loss, Owner, Request, What};

/// Why functions are left out that came when the cells of a thread had reached their largest size.
const NO_ROOM: &str =
    "no room for more counters: choose fewer functions, or entry: instead of times";

/// How long one look at the bell lasts. Every agent rings it; then there is the segment to be
/// tended.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the server changes and the report reads.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) resolution: Resolution,
    /// By index of the segment's functions.
    pub(crate) armed: Vec<Armed>,
    /// Where the objects of the resolution are in the segment; none for those that had no room.
    places: Vec<Option<usize>>,
    /// Functions for which the segment had no room.
    left_out: Vec<Armed>,
    /// When files were changed that processes with the image had mapped, by their numbers.
    seen: HashMap<(u64, u64), i128>,
    /// Questions about objects that could not be looked at.
    unseen: u64,
    /// The most questions that agents have said to have got no answer. Kept here: what stands in
    /// the segment others may write to.
    unanswered: u64,
}

/// The state, shared by who serves and who reports.
#[derive(Debug)]
pub(crate) struct Server {
    state: Mutex<State>,
}

impl Server {
    /// Puts all that is known into the segment.
    pub(crate) fn new(resolution: Resolution, tables: &Tables) -> Self {
        let mut state = State {
            armed: Vec::new(),
            places: Vec::new(),
            left_out: Vec::new(),
            seen: HashMap::new(),
            unseen: 0,
            unanswered: 0,
            resolution,
        };
        for index in 0..state.resolution.objects.len() {
            state.add(index, tables);
        }
        tables.segment.seal_start();
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers agents for as long as the process lives; what images ask is for `images` to answer.
    pub(super) fn serve(&self, tables: &Tables, images: impl Fn(Request)) -> ! {
        let mut seen = 0;
        let space = Owner::current().space;
        loop {
            seen = tables.segment.wait_for_requests(seen, PATIENCE);
            tend(tables, space);
            self.state().note_unanswered(tables);
            for request in tables.segment.requests() {
                if request.what != What::Object {
                    images(request);
                    continue;
                }
                let known = tables.segment.objects_len();
                let answer = self.resolve(&request, tables);
                tables.segment.answer(&request, answer);
                if tables.segment.objects_len() > known {
                    keep(tables);
                }
            }
        }
    }

    /// Adds what a process has mapped and the segment does not know yet: for an image, which finds
    /// it there.
    ///
    /// # Errors
    /// The process cannot be looked at.
    pub(super) fn learn(&self, pid: i32, tables: &Tables) -> anyhow::Result<()> {
        let state = &mut *self.state();
        let root = processes::folder(pid).join("root");
        let seen = RefCell::new(std::mem::take(&mut state.seen));
        let known = |file: &Identity| {
            let known = tables.segment.find_object(file);
            let Some(changed) = changed(&root, file) else { return known.is_some() };
            let before = seen.borrow_mut().insert((file.dev, file.ino), changed);
            // The same file with other contents is another object.
            let retired = known.filter(|_| before.is_some_and(|before| before != changed));
            retired.into_iter().for_each(|object| tables.segment.retire_object(object));
            known.is_some() && retired.is_none()
        };
        let unknown = unknown(pid, known).context("its mappings cannot be read");
        state.seen = seen.into_inner();
        let unknown = unknown?;
        if unknown.is_empty() {
            return Ok(());
        }
        for object in unknown {
            match object {
                Some(object) => drop(state.adopt(object, tables)),
                None => state.unseen += 1,
            }
        }
        keep(tables);
        Ok(())
    }

    /// The place in the segment of the object that is asked for; added if it is new, also when
    /// nothing of it is to be probed, so that nobody asks again. What is added is what was read:
    /// whatever the question says, it brings nobody functions that are not in the file that they
    /// have.
    fn resolve(&self, request: &Request, tables: &Tables) -> Option<usize> {
        if let Some(known) = tables.segment.find_object(&request.object) {
            return Some(known);
        }
        let process = Path::new("/proc").join(request.pid.to_string());
        let Some(object) = opened::open(&process, &request.object, request.address) else {
            self.state().unseen += 1;
            return None;
        };
        self.state().adopt(object, tables)
    }
}

/// When the status of a file that a process has mapped was last changed, in nanoseconds since 1970.
/// `None`: another file has its name by now, or none.
fn changed(root: &Path, file: &Identity) -> Option<i128> {
    let path = Path::new(OsStr::from_bytes(&file.path));
    let found = fs::metadata(root.join(path.strip_prefix("/").ok()?)).ok()?;
    let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
    ((found.dev(), found.ino()) == (file.dev, file.ino)).then_some(changed)
}

/// What is new in the tables is in the user's file, too.
fn keep(tables: &Tables) {
    if let Err(why) = tables.keep() {
        say(&format!("{why:#}"));
    }
}

impl State {
    /// What a segment has that was made for the same specs, and for objects of which there are some
    /// here: each function is looked for by its file and address.
    ///
    /// # Errors
    /// One is not there: the files have changed since.
    pub(crate) fn again(resolution: Resolution, tables: &Tables) -> anyhow::Result<Self> {
        let mut known = HashMap::new();
        for (object, its) in resolution.objects.iter().enumerate() {
            for (function, f) in resolution.selections[object].functions.iter().enumerate() {
                let key = (its.device, its.inode, f.address, f.offset);
                known.insert(key, Armed { object, function });
            }
        }
        let find = |index: usize| {
            let function = tables.segment.function(index)?;
            let file = tables.segment.object(tables.segment.object_of(index)?)?;
            let key = (file.dev, file.ino, function.address, u64::from(function.offset));
            known.get(&key).copied()
        };
        let armed = (0..tables.segment.functions_len()).map(find).collect::<Option<Vec<_>>>();
        let armed =
            armed.context("a program or library in it is not the one any more that it was")?;
        let (places, left_out) = (Vec::new(), Vec::new());
        let seen = HashMap::new();
        Ok(Self { resolution, armed, places, left_out, seen, unseen: 0, unanswered: 0 })
    }

    /// The place in the segment of an object that has appeared; added if it is new.
    fn adopt(&mut self, object: Object, tables: &Tables) -> Option<usize> {
        let identity = identity(&object);
        if let Some(known) = tables.segment.find_object(&identity) {
            return Some(known);
        }
        let hooks = planning::hooks(&object);
        let index = self.resolution.appeared(object);
        if index == self.places.len() {
            self.add(index, tables);
            return self.places[index];
        }
        // A copy, or one that only its owner or name has changed of.
        let same = self.places[index]?;
        let (functions, plans) = (tables.segment.functions_of(same), tables.segment.plans_of(same));
        let copy = tables.segment.add_object(&identity, functions, &plans).ok()?;
        tables.segment.set_hooks(copy, hooks);
        Some(copy)
    }

    /// Something was loaded that is not known.
    pub(super) fn note_unseen(&mut self) {
        self.unseen += 1;
    }

    /// Adds the object at `index`, the next one, to the segment.
    fn add(&mut self, index: usize, tables: &Tables) {
        let place = tables.add(&self.resolution, index, &mut self.armed, &mut self.left_out);
        self.places.push(place);
    }

    fn note_unanswered(&mut self, tables: &Tables) {
        self.unanswered = self.unanswered.max(tables.segment.lost(Loss::Unanswered));
    }

    /// How many programs and libraries that were loaded nothing is known of: while there are some,
    /// it is not known either what matches nothing.
    pub(crate) fn unknown(&mut self, tables: &Tables) -> u64 {
        self.note_unanswered(tables);
        self.unseen.saturating_add(self.unanswered)
    }

    /// Functions for which there was no room, one by one.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = SkippedRow> {
        self.left_out.iter().map(|at| SkippedRow {
            object: self.resolution.objects[at.object].name().to_string(),
            name: self.resolution.selections[at.object].functions[at.function].name.clone(),
            reason: NO_ROOM.to_string(),
        })
    }
}
