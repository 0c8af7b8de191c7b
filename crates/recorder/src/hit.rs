//! The way of a hit.
#![allow(unsafe_code)]

use crate::recorder::{Probe, Recorder, Site};
use crate::stack_cache::Answer;
use crate::thread::{Thread, time};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use unwind::{Bounds, End, Host, Method, NoTrace, Start, Trace};
use uprobe::{Consumer, Context, Span, Vectors, Verdict, add_own};
use wire::{Frame, NoStack, Segment, StackCell};

impl Recorder {
    /// What is to be called at hits of a function. The function's module has been told to
    /// [`Recorder::loaded`].
    ///
    /// # Context
    /// Allocates; what it allocates is not freed before [`Recorder::end`], for a probe may be hit
    /// as long as the process lives.
    pub fn consumer(&'static self, probe: Probe) -> Consumer {
        self.consumer_by(probe, self.method)
    }

    /// [`Recorder::consumer`] that takes stacks in another way than the segment says.
    pub fn consumer_by(&'static self, probe: Probe, method: Method) -> Consumer {
        let frame = self.unwinder.frame(probe.address);
        // Nobody calls `_start`.
        let probe = Probe { entry: probe.entry && self.unwinder.is_called(probe.address), ..probe };
        let site = self.site(probe, frame, method);
        Consumer {
            entry: Some(entered),
            ret: None,
            span: (self.timed && probe.timed).then_some(returned as fn(usize, u32, uprobe::Span)),
            busy: Some(meanwhile),
            data: ptr::from_ref(site).expose_provenance(),
            // Nothing on the way of a hit copies memory, and what does runs in `uprobe::slowly`.
            vectors: Vectors::Sse,
            limit: 0,
        }
    }
}

/// The cookie of a call without a stack.
const NOTHING: u32 = u32::MAX;

/// The engine, for walks.
struct Engine<'a>(&'a Segment);

impl Host for Engine<'_> {
    #[inline]
    fn original(&self, address: u64, read: &mut dyn FnMut(u64, u64)) -> Option<u64> {
        uprobe::original_return_address(address, read)
    }

    fn slowly(&self, f: &mut dyn FnMut()) {
        self.0.first_sight();
        uprobe::slowly(f);
    }

    fn own_stack(&self) -> Option<Range<u64>> {
        uprobe::own_stack()
    }
}

/// [`uprobe::Consumer::entry`].
pub(crate) fn entered(context: &mut Context, data: usize, cookie: &mut u64) -> Verdict {
    // SAFETY: `Recorder::consumer` gives the address of a site that is never freed.
    let site = unsafe { &*ptr::with_exposed_provenance::<Site>(data) };
    uprobe::count_call_in_consumer(site.probe.cell);
    let index = match count(site, context) {
        Ok((cell, index)) => {
            add_own(&cell.calls, 1);
            index
        }
        Err(why) => {
            site.recorder.without(why);
            NOTHING
        }
    };
    *cookie = u64::from(index);
    if site.probe.timed { Verdict::Return } else { Verdict::Skip }
}

/// [`uprobe::Consumer::busy`]: a signal handler, while the thread is somewhere in here and its part
/// is being used, or a fork child, while its part is its parent's. So there is no stack.
pub(crate) fn meanwhile(data: usize) {
    // SAFETY: as in `entered`.
    let site = unsafe { &*ptr::with_exposed_provenance::<Site>(data) };
    uprobe::count_call(site.probe.cell);
    site.recorder.without(NoStack::Nested);
}

/// [`uprobe::Consumer::span`].
pub(crate) fn returned(data: usize, cookie: u32, span: Span) {
    // SAFETY: as in `entered`.
    let site = unsafe { &*ptr::with_exposed_provenance::<Site>(data) };
    uprobe::count_span(site.probe.cell, span);
    // The entry's thread may have been another one, if stacks are switched: the addition is atomic.
    if cookie != NOTHING
        && let Some(cell) = site.recorder.segment.stack_cell(cookie)
    {
        time(cell).fetch_add(span.own, Ordering::Relaxed);
    }
}

/// The cell of this hit's stack.
#[inline(always)]
fn count(site: &Site, context: &Context) -> Result<(&'static StackCell, u32), NoStack> {
    // SAFETY: the calling thread's own, and consumers do not nest.
    let thread = unsafe { &mut *own_thread(site.recorder).ok_or(NoStack::Counters)? };
    let registers = &context.registers;
    let start = Start {
        pc: site.probe.address,
        sp: registers.rsp,
        bp: registers.rbp,
        entry: site.probe.entry,
    };
    match thread.cache.look(&site.recorder.keys, &start, site.recorder.unwinder.generation()) {
        Answer::Cell(cell, index) => {
            thread.met(&site.recorder.store, cell);
            Ok((cell, index))
        }
        Answer::Walk => walk(site, thread, start),
        Answer::Remember => remember(site, thread, start),
    }
}

/// Walks. Not inlined, as all of this: stacks in the cache would pay for the registers that it
/// needs.
#[inline(never)]
fn walk(
    site: &Site,
    thread: &mut Thread,
    start: Start,
) -> Result<(&'static StackCell, u32), NoStack> {
    let len = stack(site, &mut thread.frames, &mut thread.bounds, start, &mut NoTrace);
    cell(site.recorder, thread, len)
}

/// Walks, and remembers the stack.
#[inline(never)]
fn remember(
    site: &Site,
    thread: &mut Thread,
    start: Start,
) -> Result<(&'static StackCell, u32), NoStack> {
    let recorder = site.recorder;
    let len = stack(site, &mut thread.frames, &mut thread.bounds, start, thread.cache.begin());
    let found = cell(recorder, thread, len)?;
    let may_grow = thread.cache.finish(&recorder.keys, &start, &thread.bounds, found);
    if may_grow && !uprobe::is_sealed() {
        uprobe::slowly(&mut || recorder.grow(thread));
    }
    Ok(found)
}

/// Takes the stack into `frames`: the function itself, its callers, and why those are not all; how
/// many frames those are.
#[inline(always)]
fn stack(
    site: &Site,
    frames: &mut [u64],
    bounds: &mut Bounds,
    start: Start,
    trace: &mut impl Trace,
) -> usize {
    let recorder = site.recorder;
    let (callers, end) = if recorder.depth == 1 {
        // No more is wanted.
        (0, End::Complete)
    } else {
        let room = &mut frames[1..recorder.depth];
        recorder.unwinder.walk_traced(
            &Engine(recorder.segment),
            start,
            site.method,
            bounds,
            room,
            trace,
        )
    };
    frames[0] = site.frame;
    let len = callers + 1;
    if end == End::Complete {
        return len;
    }
    frames[len] = Frame::cut(end as u8).0;
    len + 1
}

/// The cell of the stack in the thread's frames. Not inlined: once is enough, in images.
#[inline(never)]
fn cell(
    recorder: &Recorder,
    thread: &mut Thread,
    frames: usize,
) -> Result<(&'static StackCell, u32), NoStack> {
    let handle = match recorder.store.save(&thread.frames[..frames]) {
        Ok(handle) => handle,
        Err(NoStack::Full) if thread.make_room(&recorder.store) => {
            recorder.store.save(&thread.frames[..frames])?
        }
        Err(why) => return Err(why),
    };
    thread.cell(recorder.segment, &recorder.store, handle)
}

/// This thread's part.
#[inline(always)]
fn own_thread(recorder: &Recorder) -> Option<*mut Thread> {
    let (word, block) = uprobe::thread_word()?;
    // Relaxed: the thread's own word.
    let known = word.load(Ordering::Relaxed);
    if known != 0 {
        return Some(ptr::with_exposed_provenance_mut(known));
    }
    first_hit(recorder, word, block)
}

#[cold]
#[inline(never)]
fn first_hit(recorder: &Recorder, word: &AtomicUsize, block: usize) -> Option<*mut Thread> {
    let mut made = ptr::null_mut();
    uprobe::slowly(&mut || made = recorder.thread(block));
    word.store(made.expose_provenance(), Ordering::Relaxed);
    (!made.is_null()).then_some(made)
}
