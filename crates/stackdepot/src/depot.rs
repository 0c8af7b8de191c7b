//! The depot: save, get, put, fetch.

use crate::arena;
use crate::builder::Builder;
use crate::error::{FetchError, Miss, Put, PutError};
use crate::free::FreeList;
use crate::grace::{GracePeriod, Rcu};
use crate::handle::{Flags, Handle};
use crate::hash;
use crate::layout::{BUCKET_WORDS, Layout, record_words};
use crate::memory::{Memory, Sharing};
use crate::record::{self, Change, PERSISTENT, Record};
use crate::stats::{Counter, Stats, count};
use crate::table::{self, Candidates, Key};
use crate::text::Display;
use crate::view::{Iter, View};
use crate::writer::Writer;
use core::fmt;
use percpu::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A store that keeps each distinct stack once. See the [crate's page](crate).
///
/// `G` says when the place of an evicted stack may be used again: [`Rcu`] by default; [`NoEviction`](crate::NoEviction) for a depot that keeps everything.
///
/// # Context
/// `save`, `get`, `put` and `fetch` are signal-safe, allocate nothing and never wait: inside malloc, in a handler that interrupted any of them, at any depth of recursion. `errno` is left
/// alone. System calls: a `save` with [`Flags::CAN_GROW`] that needs a new pool makes one (`mprotect` or `madvise`), one that starts a grace period may run a membarrier, and in shared
/// memory a lock that stays taken is followed by a `kill(pid, 0)`.
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
pub struct Depot<G: GracePeriod = Rcu> {
    memory: Memory,
    layout: Layout,
    sharing: Sharing,
    grace: G,
    writer: Writer,
    /// Written by `set_enabled` alone.
    enabled: AtomicBool,
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
    fn of<G: GracePeriod>(frames: &'f [u64], hash: u64, flags: Flags) -> Self {
        let counted = G::EVICTS && flags.contains(Flags::GET);
        Self { frames, key: Key::new(hash), identity: record::identity(hash, frames.len()), counted }
    }
}

impl Depot {
    /// Starts to describe a depot.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl<G: GracePeriod> Depot<G> {
    pub(crate) fn assemble(memory: Memory, layout: Layout, sharing: Sharing, grace: G, writer: Writer) -> Self {
        Self { memory, layout, sharing, grace, writer, enabled: AtomicBool::new(true) }
    }

    /// Saves a stack, innermost frame first, and returns its handle; [`Handle::NONE`] if it was not saved, counted by reason in [`Stats`].
    ///
    /// Equal stacks get equal handles. Only the first [`max_depth`](Self::max_depth) frames count. With [`Flags::GET`] the handle is valid until the matching [`put`](Self::put), without it for
    /// ever.
    ///
    /// # Context
    /// See [`Depot`]. A stack that is there already is found without a lock, a system call, or (without GET) any write to shared memory.
    #[inline(always)]
    pub fn save(&self, frames: &[u64], flags: Flags) -> Handle {
        self.try_save(frames, flags).unwrap_or(Handle::NONE)
    }

    /// [`save`](Self::save) that says why not. Counts the same.
    ///
    /// # Errors
    /// See [`Miss`].
    #[inline(always)]
    pub fn try_save(&self, frames: &[u64], flags: Flags) -> Result<Handle, Miss> {
        // Clamped before hashing: a stack that is cut afterwards never finds itself again.
        let frames = frames.get(..self.layout.max_depth).unwrap_or(frames);
        // Relaxed: switching off is a request, not a barrier.
        if frames.is_empty() || !self.enabled.load(Ordering::Relaxed) || !self.may_read() {
            return Err(self.refuse(frames));
        }
        let hash = hash::hash(frames);
        let query = Query::of::<G>(frames, hash, flags);
        let found = if query.counted {
            let Some(section) = self.grace.enter() else { return Err(self.no_section()) };
            let found = self.lookup(query);
            drop(section);
            found
        } else {
            self.lookup_kept(query)
        };
        match found {
            Some(handle) => Ok(handle),
            None => self.insert(frames, hash, flags),
        }
    }

    /// Takes one more reference on a stack that the caller holds a reference on (or knows to be persistent).
    ///
    /// # Errors
    /// See [`PutError`]; [`Handle::NONE`] is [`PutError::BadHandle`].
    pub fn get(&self, handle: Handle) -> Result<(), PutError> {
        self.may_write()?;
        let record = self.view().record(handle).ok_or_else(|| self.bad_put(PutError::BadHandle))?;
        match record::get(record.head()) {
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
    /// A put too many is reported as [`PutError::Unbalanced`] and changes nothing, as long as the record has no other holders and was not reused: like a second `free`,
    /// a put of a handle that was put already may hit somebody else's reference.
    pub fn put(&self, handle: Handle) -> Result<Put, PutError> {
        if handle.is_none() {
            return Ok(Put::Ignored);
        }
        self.may_write()?;
        let record = self.view().record(handle).ok_or_else(|| self.bad_put(PutError::BadHandle))?;
        match record::put(record.head()) {
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
        self.view().fetch(handle, buf)
    }

    /// The live stacks, in no order. While others save and put, a stack that came or went meanwhile may be met or not, and one that went and came
    /// back may be met twice.
    pub fn iter(&self) -> Iter<'_> {
        self.view().iter()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.view().stats()
    }

    /// A stack as text: a line per frame with number, address and whatever `symbolise` writes for the address.
    ///
    /// # Examples
    /// ```
    /// # use stackdepot::{Depot, Flags};
    /// let depot = Depot::builder().build_mmap()?;
    /// let handle = depot.save(&[0x40_1136, 0x40_1200], Flags::CAN_GROW);
    /// let text = depot.display(handle, |addr, f| write!(f, "main+{:#x}", addr - 0x40_1000)).to_string();
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

    /// Switches saving on or off, for this depot object (not for others on the same region). Handles stay valid.
    pub fn set_enabled(&self, enabled: bool) {
        // Relaxed: see `try_save`.
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }

    #[inline(always)]
    fn view(&self) -> View<'_> {
        View { words: self.memory.words(), layout: &self.layout }
    }

    /// False in a fork child whose parent recycles the records: its lookups are no sections of the parent's grace periods.
    #[inline(always)]
    fn may_read(&self) -> bool {
        !G::EVICTS || self.sharing == Sharing::Private || self.writer.may_read(&self.memory, &self.layout)
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
            let Some(head) = Record::is(self.words(), loc, query.identity, query.frames) else { continue };
            // Hash, size and content agree; only now the count, and one of 0 means that the record is on its way out.
            match if query.counted { record::get(head) } else { record::keep(head) } {
                Change::Dead => {}
                Change::Already | Change::Count(_) => return Some(Handle::at(loc as u32)),
                Change::Became(_) => {
                    self.count_promotion_at(loc, query.counted);
                    return Some(Handle::at(loc as u32));
                }
            }
        }
    }

    /// Finds the stack if it is persistent: then there is nothing to count and nothing to wait for, so this is all that a depot without eviction needs, and what a save
    /// without GET tries first.
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
    /// The record is made before the bucket is locked, so the lock is held for a second look and two stores, and the free lists are never touched under it.
    #[cold]
    #[inline(never)]
    fn insert(&self, frames: &[u64], hash: u64, flags: Flags) -> Result<Handle, Miss> {
        let result = self.insert_uncounted(&Query::of::<G>(frames, hash, flags), flags.contains(Flags::CAN_GROW));
        if let Err(miss) = result {
            count(self.words(), miss.into(), 1);
        }
        result
    }

    fn insert_uncounted(&self, query: &Query<'_>, grow: bool) -> Result<Handle, Miss> {
        let me = self.writer.slot(&self.memory, &self.layout).ok_or(Miss::Disabled)?;
        if G::EVICTS && !query.counted {
            // Only persistent records were looked at so far.
            let section = self.grace.enter().ok_or(Miss::GrowthRefused)?;
            if let Some(handle) = self.look_again(query) {
                return Ok(handle);
            }
            drop(section);
        }
        let depth = query.frames.len();
        let loc = self.place(depth, grow, me)?;
        if !record::write(self.words(), loc, query.identity, query.frames) {
            return Err(Miss::Full);
        }
        let result = self.publish(query, loc, grow, me);
        if result == Ok(Handle::at(loc as u32)) {
            self.count_new(query);
        } else {
            self.unplace(loc, depth, me);
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
            // The second look needs a section as the first did. Not opened earlier: a section of ours would hold up the grace period that `place` hopes for.
            let section = self.grace.enter().ok_or(Miss::GrowthRefused)?;
            let Some(locked) = table::lock(self.words(), &self.layout, query.key, &self.writer, me) else {
                // Perhaps whoever keeps the lock saved this very stack.
                return self.look_again(query).ok_or(Miss::Contended);
            };
            // Loaded after locking, see `Locked`.
            let words = self.words();
            if spare.is_some_and(|at| locked.link(words, &self.layout, at)) {
                // Even if the stack is there by now: nothing takes single buckets back.
                count(words, Counter::OverflowBuckets, 1);
            }
            if let Some(handle) = self.second_look(query) {
                return Ok(handle);
            }
            let references = if query.counted { 1 } else { PERSISTENT };
            if locked.publish(words, &self.layout, query.key, loc, || record::enliven(words, loc, query.identity, references)) {
                return Ok(Handle::at(loc as u32));
            }
            drop(locked);
            drop(section);
            spare = Some(arena::allocate(&self.memory, &self.layout, BUCKET_WORDS, BUCKET_WORDS, grow)?);
        }
    }

    /// Whoever holds the bucket's lock sees every stack in it: what is not found now is new.
    fn second_look(&self, query: &Query<'_>) -> Option<Handle> {
        #[cfg(loom)]
        if crate::broken::is(crate::broken::Twin::NoSecondLook) {
            return None;
        }
        self.look_again(query)
    }

    /// A place for a record: one whose grace period has elapsed, else a fresh one.
    fn place(&self, depth: usize, grow: bool, me: u64) -> Result<usize, Miss> {
        let free = FreeList::of(&self.memory, &self.layout, depth);
        if let Some(loc) = free.and_then(|f| f.pop(|stamp| self.grace.elapsed(stamp), &self.writer, me)) {
            count(self.words(), Counter::Reused, 1);
            return Ok(loc);
        }
        arena::allocate(&self.memory, &self.layout, record_words(depth), 1, grow)
    }

    /// Gives back a place whose record was never published.
    fn unplace(&self, loc: usize, depth: usize, me: u64) {
        if let Some(list) = FreeList::of(&self.memory, &self.layout, depth) {
            list.push(loc, None, &self.writer, me);
        }
    }

    /// The caller's put ended the record: unlink, stamp, recycle.
    #[cold]
    #[inline(never)]
    fn evict(&self, record: &Record<'_>, loc: usize) {
        let words = self.words();
        let hash = record.hash();
        let head = record.head().load(Ordering::Relaxed);
        let depth = record::depth(head);
        // A wild handle can look like a record up to here. What was never in the table is not recycled.
        if record::identity(hash, depth) != head as u32 || !table::unlink(words, &self.layout, Key::new(hash), loc) {
            count(words, Counter::Corrupt, 1);
            return;
        }
        // Before the record can be reused, so that `in_use` never goes below 0.
        count(words, Counter::Freed, 1);
        if cfg!(debug_assertions) {
            record.poison();
        }
        let Some(me) = self.writer.slot(&self.memory, &self.layout) else { return };
        // After the unlinking: a section that began before the stamp may still find the record, a later one cannot.
        let stamp = self.grace.now();
        if let Some(list) = FreeList::of(&self.memory, &self.layout, depth) {
            list.push(loc, Some(stamp), &self.writer, me);
        }
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

    #[cold]
    #[inline(never)]
    fn count_promotion_at(&self, loc: usize, saturated: bool) {
        if let Some(record) = Record::at(self.words(), loc, self.layout.max_depth) {
            self.count_promotion(&record, saturated);
        }
    }

    fn count_promotion(&self, record: &Record<'_>, saturated: bool) {
        let words = self.words();
        let depth = record::depth(record.head().load(Ordering::Relaxed));
        count(words, Counter::Promoted, 1);
        count(words, Counter::Saturated, i64::from(saturated));
        count(words, Counter::Persistent, 1);
        count(words, Counter::PersistentBytes, record_words(depth.max(1)) as i64 * 8);
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
    fn no_section(&self) -> Miss {
        count(self.words(), Counter::GrowthRefused, 1);
        Miss::GrowthRefused
    }

    #[cold]
    #[inline(never)]
    fn bad_put(&self, error: PutError) -> PutError {
        count(self.words(), Counter::BadPuts, 1);
        error
    }
}

impl<G: GracePeriod> Drop for Depot<G> {
    fn drop(&mut self) {
        self.writer.release(self.memory.words());
    }
}

impl<G: GracePeriod> fmt::Debug for Depot<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Depot").field("layout", &self.layout).field("sharing", &self.sharing).finish_non_exhaustive()
    }
}
