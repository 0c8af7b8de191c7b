//! The depot: save, get, put, fetch.

use crate::arena;
#[cfg(loom)]
use crate::broken::{self, Twin};
use crate::error::{FetchError, Miss, Put, PutError};
use crate::eviction::{Evict, Eviction};
use crate::free::FreeList;
use crate::handle::{Flags, Handle};
use crate::hash;
use crate::layout::{BUCKET_WORDS, Layout, record_words};
use crate::memory::{Memory, Sharing};
use crate::record::{self, Change, NoRecord, PERSISTENT, Record, Taken};
use crate::stats::{Counter, Stats, count};
use crate::table::{self, Candidates, Key};
use crate::text::Display;
use crate::view::{Iter, View};
use crate::writer::Writer;
use core::fmt;
use core::marker::PhantomData;
use percpu::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A store that keeps each distinct stack once. See the [crate's page](crate).
///
/// `E` says whether stacks that nobody holds any more are evicted: [`Evict`], the default, or
/// [`NoEviction`](crate::NoEviction).
///
/// # Context
/// `save`, `get`, `put` and `fetch` are signal-safe, allocate nothing and never wait: inside
/// malloc, in a handler that interrupted any of them, at any depth of recursion. `errno` is left
/// alone. System calls: a `save` with [`Flags::CAN_GROW`] that needs a new pool makes one
/// (`mprotect` or `madvise`), and in shared memory a lock that stays taken is followed by a
/// `kill(pid, 0)`.
///
/// # Examples
/// ```
/// use stackdepot::{Depot, Flags, Put};
///
/// let depot = Depot::builder().expected_stacks(10_000).build_mmap()?;
/// let first = depot.save(&[0x1000, 0x2000, 0x3000], Flags::GET | Flags::CAN_GROW);
/// let again = depot.save(&[0x1000, 0x2000, 0x3000], Flags::GET);
/// assert_eq!(first, again);
///
/// let mut buf = [0; 64];
/// assert_eq!(depot.fetch(first, &mut buf)?, [0x1000, 0x2000, 0x3000]);
///
/// assert_eq!(depot.put(first)?, Put::Released);
/// assert_eq!(depot.put(first)?, Put::Evicted);
/// assert!(depot.put(first).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Depot<E: Eviction = Evict> {
    memory: Memory,
    layout: Layout,
    sharing: Sharing,
    writer: Writer,
    /// Written by `set_enabled` alone.
    enabled: AtomicBool,
    eviction: PhantomData<E>,
}

/// A stack on its way through a save.
#[derive(Clone, Copy)]
struct Query<'f> {
    frames: &'f [u64],
    key: Key,
    identity: u32,
    /// Count a reference (in a depot that evicts), else keep for ever.
    counted: bool,
}

impl<'f> Query<'f> {
    #[inline(always)]
    fn of<E: Eviction>(frames: &'f [u64], hash: u64, flags: Flags) -> Self {
        let counted = E::EVICTS && flags.contains(Flags::GET);
        Self {
            frames,
            key: Key::new(hash),
            identity: record::identity(hash, frames.len()),
            counted,
        }
    }
}

impl<E: Eviction> Depot<E> {
    pub(crate) fn assemble(
        memory: Memory,
        layout: Layout,
        sharing: Sharing,
        writer: Writer,
    ) -> Self {
        let (enabled, eviction) = (AtomicBool::new(true), PhantomData);
        Self { memory, layout, sharing, writer, enabled, eviction }
    }

    /// From here on saves without [`Flags::CAN_GROW`] make no system call: for a process that is
    /// about to lose them. Room is made first, as such a save does; a lock that another process has
    /// left behind is waited for in vain, as one that is held for long. A fork child saves after
    /// [`adopt_as`](Self::adopt_as).
    pub fn seal(&self) {
        arena::ahead(&self.memory, &self.layout);
        self.writer.seal();
    }

    /// In a fork child of a process that was sealed: its number is `pid`.
    ///
    /// # Context
    /// Before its first save, and behind the fork handler of [`percpu`]. Signal-safe; no system
    /// call.
    pub fn adopt_as(&self, pid: u32) {
        self.writer.adopt_as(&self.memory, pid);
    }

    /// Saves a stack, innermost frame first, and returns its handle; [`Handle::NONE`] if it was not
    /// saved, counted by reason in [`Stats`].
    ///
    /// Equal stacks get equal handles. Only the first [`max_depth`](Self::max_depth) frames count.
    /// With [`Flags::GET`] the handle is valid until the matching [`put`](Self::put), without it
    /// for ever.
    ///
    /// # Context
    /// See [`Depot`]. A stack that is there already is found without a lock, a system call, or
    /// (without GET) any write to shared memory.
    #[inline(always)]
    pub fn save(&self, frames: &[u64], flags: Flags) -> Handle {
        self.save_as(frames, flags, |result| result.unwrap_or(Handle::NONE))
    }

    /// [`save`](Self::save) that says why not. Counts the same.
    ///
    /// # Errors
    /// See [`Miss`].
    #[inline(always)]
    pub fn try_save(&self, frames: &[u64], flags: Flags) -> Result<Handle, Miss> {
        self.save_as(frames, flags, |result| result)
    }

    /// Saves, and gives the result in the caller's form. By a function, and in each branch, so that
    /// a stack that is found costs no `Result` on the way.
    #[inline(always)]
    fn save_as<R>(
        &self,
        frames: &[u64],
        flags: Flags,
        form: impl Fn(Result<Handle, Miss>) -> R,
    ) -> R {
        // Clamped before hashing: a stack that is cut afterwards never finds itself again.
        let frames = frames.get(..self.layout.max_depth).unwrap_or(frames);
        // Relaxed: switching off is a request, not a barrier.
        if frames.is_empty() || !self.enabled.load(Ordering::Relaxed) || !self.may_read() {
            return form(Err(self.refuse(frames)));
        }
        let hash = hash::hash(frames);
        let query = Query::of::<E>(frames, hash, flags);
        let found = if query.counted { self.lookup(query) } else { self.lookup_kept(query) };
        match found {
            Some(handle) => form(Ok(handle)),
            None => form(self.insert(frames, hash, flags)),
        }
    }

    /// Takes one more reference on a stack that the caller holds a reference on (or knows to be
    /// persistent).
    ///
    /// # Errors
    /// See [`PutError`]; [`Handle::NONE`] is [`PutError::BadHandle`]. Refused and changing nothing:
    /// every handle but that of a stack that is there.
    pub fn get(&self, handle: Handle) -> Result<(), PutError> {
        self.may_write()?;
        let (record, identity) = self.named(handle)?;
        match record::get(record.head(), identity) {
            Change::Dead => Err(self.bad_put(PutError::Unbalanced)),
            Change::Became(_) => {
                self.count_promotion(&record, true);
                Ok(())
            }
            Change::Already | Change::Count(_) => Ok(()),
        }
    }

    /// Gives a reference back. The stack is evicted with its last one.
    ///
    /// # Errors
    /// A put too many is reported as [`PutError::Unbalanced`] and changes nothing, as long as the
    /// record has no other holders and was not reused: like a second `free`, a put of a handle that
    /// was put already may hit somebody else's reference. A number that never was a handle is
    /// [`PutError::BadHandle`].
    pub fn put(&self, handle: Handle) -> Result<Put, PutError> {
        if handle.is_none() {
            return Ok(Put::Ignored);
        }
        self.may_write()?;
        let (record, identity) = self.named(handle)?;
        match record::put(record.head(), identity) {
            Change::Dead => Err(self.bad_put(PutError::Unbalanced)),
            Change::Already | Change::Became(_) => Ok(Put::Persistent),
            Change::Count(0) => {
                self.evict(&record, handle.loc() as usize);
                Ok(Put::Evicted)
            }
            Change::Count(_) => Ok(Put::Released),
        }
    }

    /// Copies a stack out.
    ///
    /// # Errors
    /// See [`FetchError`]. A handle whose place was reused for another stack gives that stack.
    pub fn fetch<'b>(&self, handle: Handle, buf: &'b mut [u64]) -> Result<&'b [u64], FetchError> {
        self.follow();
        self.view().fetch(handle, buf)
    }

    /// The live stacks, in no order. While others save and put, a stack that came or went meanwhile
    /// may be met or not, and one that went and came back may be met twice.
    pub fn iter(&self) -> Iter<'_> {
        self.follow();
        self.view().iter()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.view().stats()
    }

    /// A stack as text: a line per frame with number, address and whatever `symbolise` writes for
    /// the address.
    ///
    /// # Examples
    /// ```
    /// # use stackdepot::{Depot, Flags};
    /// let depot = Depot::builder().build_mmap()?;
    /// let handle = depot.save(&[0x40_1136, 0x40_1200], Flags::CAN_GROW);
    /// let text = depot.display(handle, |addr, f| write!(f, "main+{:#x}", addr - 0x40_1000));
    /// let text = text.to_string();
    /// assert_eq!(text, "#0   0x0000000000401136 main+0x136\n#1   0x0000000000401200 main+0x200");
    /// # Ok::<(), stackdepot::Error>(())
    /// ```
    pub fn display<S>(&self, handle: Handle, symbolise: S) -> Display<'_, S>
    where
        S: Fn(u64, &mut fmt::Formatter<'_>) -> fmt::Result,
    {
        Display::new(self.view(), handle, symbolise)
    }

    /// Frames beyond so many are not kept.
    pub fn max_depth(&self) -> usize {
        self.layout.max_depth
    }

    /// Switches saving on or off, for this depot object (not for others on the same region).
    /// Handles stay valid.
    pub fn set_enabled(&self, enabled: bool) {
        // Relaxed: see `try_save`.
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }

    /// Before what another process saved is looked at by its handle. What cannot be mapped is
    /// nowhere.
    #[inline]
    fn follow(&self) {
        let _ = arena::follow(&self.memory, &self.layout);
    }

    #[inline(always)]
    fn view(&self) -> View<'_> {
        View { words: self.memory.words(), layout: &self.layout }
    }

    /// The record that a handle names, and its identity. The word at that position may be a frame
    /// of another record that looks like a head; only the table knows where records begin.
    fn named(&self, handle: Handle) -> Result<(Record<'_>, u32), PutError> {
        self.follow();
        let record = self.view().record(handle).map_err(|none| {
            self.bad_put(match none {
                NoRecord::Dead => PutError::Unbalanced,
                NoRecord::Nowhere => PutError::BadHandle,
            })
        })?;
        let hash = record.hash();
        let identity = record::identity(hash, record.depth());
        // Relaxed: whoever has a reference sees a head that stays as it is, but for the count.
        let is_head = record.head().load(Ordering::Relaxed) as u32 == identity;
        let (key, loc) = (Key::new(hash), handle.loc() as usize);
        if is_head && table::holds(self.words(), &self.layout, key, loc) {
            return Ok((record, identity));
        }
        Err(self.bad_put(PutError::BadHandle))
    }

    /// False in a fork child whose parent counts the references of a shared region.
    #[inline(always)]
    fn may_read(&self) -> bool {
        !E::EVICTS
            || self.sharing == Sharing::Private
            || self.writer.may_read(&self.memory, &self.layout)
    }

    fn may_write(&self) -> Result<(), PutError> {
        if self.may_read() { Ok(()) } else { Err(PutError::Disabled) }
    }

    /// Finds the stack and takes what the query wants of it: a reference, or its permanence.
    #[inline(always)]
    fn lookup(&self, query: Query<'_>) -> Option<Handle> {
        let words = self.words();
        let mut candidates = Candidates::new(words, &self.layout, query.key)?;
        loop {
            let loc = candidates.next(words, &self.layout, query.key)?;
            // Words loaded again: whoever published this position may have mapped its pool since.
            let depth = query.frames.len();
            let Some(record) = Record::candidate(self.words(), loc, depth) else { continue };
            let change = match record::take(&record, query.identity, query.frames) {
                Taken::Not => continue,
                Taken::Found(change) => {
                    if matches!(change, Change::Became(_)) || !query.counted {
                        self.settle(&record, change, query.counted);
                    }
                    return Some(Handle::at(loc as u32));
                }
                Taken::Other(change) => change,
            };
            self.put_back(&record, loc, change, query.identity);
        }
    }

    /// What else a lookup has to do that found its stack, but for the common case: nothing.
    #[cold]
    #[inline(never)]
    fn settle(&self, record: &Record<'_>, change: Change, counted: bool) {
        if let Change::Became(_) = change {
            self.count_promotion(record, true);
        } else if !counted && let Change::Became(_) = record::keep(record.head()) {
            self.count_promotion(record, false);
        }
    }

    /// Gives back a reference on another stack, which took the place of the sought one (or has the
    /// same hash).
    #[cold]
    #[inline(never)]
    fn put_back(&self, record: &Record<'_>, loc: usize, change: Change, identity: u32) {
        match change {
            Change::Became(_) => self.count_promotion(record, true),
            Change::Count(_) if record::put(record.head(), identity) == Change::Count(0) => {
                self.evict(record, loc);
            }
            _ => {}
        }
    }

    /// Finds the stack if it is persistent: then there is nothing to count, so this is all that a
    /// depot without eviction needs, and what a save without GET tries first.
    #[inline(always)]
    fn lookup_kept(&self, query: Query<'_>) -> Option<Handle> {
        let words = self.words();
        let mut candidates = Candidates::new(words, &self.layout, query.key)?;
        loop {
            let loc = candidates.next(words, &self.layout, query.key)?;
            // Words loaded again: as in `lookup`.
            if Record::is_kept(self.words(), loc, query.identity, query.frames) {
                return Some(Handle::at(loc as u32));
            }
        }
    }

    /// `lookup` for the slow paths.
    #[cold]
    #[inline(never)]
    fn look_again(&self, query: &Query<'_>) -> Option<Handle> {
        self.lookup(*query)
    }

    /// The slow way of a save: no record was found.
    ///
    /// The record is made before the bucket is locked, so the lock is held for a second look and
    /// two stores, and the free lists are never touched under it.
    #[cold]
    #[inline(never)]
    fn insert(&self, frames: &[u64], hash: u64, flags: Flags) -> Result<Handle, Miss> {
        let result = self.insert_uncounted(
            &Query::of::<E>(frames, hash, flags),
            flags.contains(Flags::CAN_GROW),
        );
        if let Err(miss) = result {
            count(self.words(), miss.into(), 1);
        }
        result
    }

    fn insert_uncounted(&self, query: &Query<'_>, grow: bool) -> Result<Handle, Miss> {
        let me = self.writer.slot(&self.memory, &self.layout).ok_or(Miss::Disabled)?;
        // What other processes saved may lie in pools that this one has not mapped yet.
        let mapped = self.memory.words().len();
        if !arena::follow(&self.memory, &self.layout) {
            return Err(Miss::GrowthRefused);
        }
        // And only persistent records were looked at so far.
        if ((E::EVICTS && !query.counted) || self.memory.words().len() > mapped)
            && let Some(handle) = self.look_again(query)
        {
            return Ok(handle);
        }
        let depth = query.frames.len();
        let loc = self.place(depth, grow)?;
        if !record::write(self.words(), loc, query.identity, query.frames) {
            return Err(Miss::Full);
        }
        let result = self.publish(query, loc, grow, me);
        if result == Ok(Handle::at(loc as u32)) {
            self.count_new(query);
        } else {
            self.unplace(loc, depth);
        }
        if grow {
            arena::ahead(&self.memory, &self.layout);
        }
        result
    }

    /// Publishes the record at `loc`, unless its stack turns out to be there.
    fn publish(&self, query: &Query<'_>, loc: usize, grow: bool, me: u64) -> Result<Handle, Miss> {
        let mut spare = None;
        loop {
            let is_dead = |owner| self.writer.is_dead(self.words(), owner);
            let Some(locked) = table::lock(self.words(), &self.layout, query.key, is_dead, me)
            else {
                // Perhaps whoever keeps the lock saved this very stack.
                return self.look_again(query).ok_or(Miss::Contended);
            };
            // After locking, see `Locked`.
            if !arena::follow(&self.memory, &self.layout) {
                return Err(Miss::GrowthRefused);
            }
            let words = self.words();
            if let Some(at) = spare.take()
                && locked.link(words, &self.layout, at)
            {
                // Even if the stack is there by now: nothing takes single buckets back.
                count(words, Counter::OverflowBuckets, 1);
            }
            if let Some(handle) = self.second_look(query) {
                return Ok(handle);
            }
            let references = if query.counted { 1 } else { PERSISTENT };
            let enliven = || record::enliven(words, loc, query.identity, references);
            if locked.publish(words, &self.layout, query.key, loc, enliven) {
                return Ok(Handle::at(loc as u32));
            }
            if !locked.has_end(words, &self.layout) {
                // Somebody scribbled there, and more room would not help.
                count(words, Counter::Corrupt, 1);
                return Err(Miss::Full);
            }
            drop(locked);
            spare = Some(arena::allocate(
                &self.memory,
                &self.layout,
                BUCKET_WORDS,
                BUCKET_WORDS,
                grow,
            )?);
        }
    }

    /// Whoever holds the bucket's lock sees every stack in it: what is not found now is new.
    fn second_look(&self, query: &Query<'_>) -> Option<Handle> {
        #[cfg(loom)]
        if broken::is(Twin::NoSecondLook) {
            return None;
        }
        self.look_again(query)
    }

    /// A place for a record: a free one, else a fresh one.
    fn place(&self, depth: usize, grow: bool) -> Result<usize, Miss> {
        let fresh = || arena::allocate(&self.memory, &self.layout, record_words(depth), 1, grow);
        if let Some(free) = FreeList::of(&self.memory, &self.layout, depth) {
            if let Some(loc) = free.pop() {
                count(self.words(), Counter::Reused, 1);
                return Ok(loc);
            }
            // One place stays in the queue: a fresh one now, while there is room, or a full depot
            // could not use the last place that is given back.
            if E::EVICTS
                && free.is_new()
                && let Ok(loc) = fresh()
            {
                free.push(loc);
            }
        }
        fresh()
    }

    /// Makes the place of a record that nobody has free.
    fn unplace(&self, loc: usize, depth: usize) {
        if let Some(free) = FreeList::of(&self.memory, &self.layout, depth) {
            free.push(loc);
        }
    }

    /// The caller's put ended the record: unlink and recycle.
    #[cold]
    #[inline(never)]
    fn evict(&self, record: &Record<'_>, loc: usize) {
        let words = self.words();
        // The frames are the caller's now.
        if !table::unlink(words, &self.layout, Key::new(record.hash()), loc) {
            count(words, Counter::Corrupt, 1);
            return;
        }
        // Before the record can be reused, so that `in_use` never goes below 0.
        count(words, Counter::Freed, 1);
        if cfg!(debug_assertions) {
            record.poison();
        }
        self.unplace(loc, record.depth());
    }

    fn count_new(&self, query: &Query<'_>) {
        let words = self.words();
        if query.counted {
            count(words, Counter::Allocated, 1);
        } else {
            count(words, Counter::Persistent, 1);
            count(words, Counter::PersistentBytes, record_words(query.frames.len()) as i64 * 8);
        }
    }

    fn count_promotion(&self, record: &Record<'_>, saturated: bool) {
        let words = self.words();
        count(words, Counter::Promoted, 1);
        count(words, Counter::Saturated, i64::from(saturated));
        count(words, Counter::Persistent, 1);
        count(words, Counter::PersistentBytes, record_words(record.depth()) as i64 * 8);
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, frames: &[u64]) -> Miss {
        let miss = if frames.is_empty() { Miss::Empty } else { Miss::Disabled };
        count(self.words(), miss.into(), 1);
        miss
    }

    #[cold]
    #[inline(never)]
    fn bad_put(&self, error: PutError) -> PutError {
        count(self.words(), Counter::BadPuts, 1);
        error
    }
}

impl<E: Eviction> Drop for Depot<E> {
    fn drop(&mut self) {
        self.writer.release(self.memory.words());
    }
}

impl<E: Eviction> fmt::Debug for Depot<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Depot")
            .field("layout", &self.layout)
            .field("sharing", &self.sharing)
            .finish_non_exhaustive()
    }
}
