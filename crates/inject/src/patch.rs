//! Changing code of the program while its threads stand.

use crate::arch::{self, restart};
use crate::error::Error;
use crate::stopped::Stopped;
use std::ops::Range;

/// Bytes to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where.
    pub address: u64,
    /// What has to be there.
    pub old: Vec<u8>,
    /// What is to be there, as many bytes.
    pub new: Vec<u8>,
}

impl Patch {
    /// The patch that takes this one back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { address: self.address, old: self.new.clone(), new: self.old.clone() }
    }
}

/// Instructions that a patch replaces, and where there are copies of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From the first byte of the first instruction to behind the last one. A thread at its first
    /// byte has executed none of them, and executes what is written there.
    pub range: Range<u64>,
    /// The instructions: address, and address of the copy. The copies follow each other as they do.
    pub moved: Vec<(u64, u64)>,
}

impl Window {
    /// Where a thread has to go on that would go on at `at`: nothing if it may stay.
    fn leads(&self, at: u64) -> Option<Option<u64>> {
        let inside = self.range.start < at && at < self.range.end;
        inside.then(|| self.moved.iter().find(|(from, _)| *from == at).map(|(_, to)| *to))
    }
}

/// What has to go on somewhere else before the bytes are written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moves {
    /// Threads, by where they are in the list, and their addresses.
    threads: Vec<(usize, u64)>,
    /// Words of signal frames, and what they are to say.
    frames: Vec<(u64, u64)>,
}

impl Stopped<'_> {
    /// Writes patches, all or none, and sees to it that what is in the middle of a window goes on
    /// in the copies of the instructions there: threads that stand there, and those that would come
    /// back there from a signal handler. How many it was.
    ///
    /// What a thread would come back to from a function that it has called is not looked at: no
    /// instruction of a window but its last may be a call.
    ///
    /// # Errors
    /// Nothing is changed, and: [`Error::Busy`] if threads run; [`Error::Changed`] if something
    /// else is there than should be; [`Error::TwoPages`]: a patch does not lie in one page;
    /// [`Error::Standing`] if a thread is in a window that has no copy of where it is, which
    /// another attempt may find elsewhere.
    ///
    /// # Context
    /// Two system calls for each page of code, and one for each thread, whose stack is read.
    /// Patches are written one after the other, and each of up to eight bytes at once: if this
    /// process is killed, some are there and the others are not.
    pub fn patch(&mut self, patches: &[Patch], windows: &[Window]) -> Result<usize, Error> {
        if !self.is_all() {
            return Err(Error::Busy);
        }
        self.gather_aside()?;
        let moves = self.moves(windows)?;
        let mut places = places(patches)?;
        for place in &mut places {
            place.old.resize(place.length, 0);
            let read = self.read(place.start, &mut place.old);
            read.map_err(|_| Error::Changed { address: place.start })?;
            place.new.clone_from(&place.old);
            for patch in &place.patches {
                let at = (patch.address - place.start) as usize;
                let bytes = &mut place.new[at..][..patch.old.len()];
                if *bytes != patch.old {
                    return Err(Error::Changed { address: patch.address });
                }
                bytes.copy_from_slice(&patch.new);
            }
        }
        // First: the copies do the same, whether or not this process lives to write.
        for (index, to) in &moves.threads {
            let thread = &self.threads[*index];
            let (mut registers, abort) = (thread.registers, self.outside_sequence(thread));
            let inside = abort != arch::instruction(&registers);
            arch::go_to(&mut registers, if inside { abort } else { *to });
            self.threads[*index].set_registers(registers)?;
        }
        for (place, to) in &moves.frames {
            self.write(*place, &to.to_ne_bytes())?;
        }
        for (done, place) in places.iter().enumerate() {
            if let Err(error) = self.write_place(place, true) {
                for place in places[..=done].iter().rev() {
                    // What could be written once, can be again.
                    let _ = self.write_place(place, false);
                }
                return Err(error);
            }
        }
        Ok(moves.threads.len() + moves.frames.len())
    }

    /// Writes the patches of a page, or what was there before.
    fn write_place(&self, place: &Place<'_>, new: bool) -> Result<(), Error> {
        let all = if new { &place.new } else { &place.old };
        if self.memory().write_file(place.start, all).is_ok() {
            return Ok(());
        }
        let bytes = |patch: &'_ Patch| if new { patch.new.clone() } else { patch.old.clone() };
        place.patches.iter().try_for_each(|patch| self.write(patch.address, &bytes(patch)))
    }

    /// What has to be moved, and where to.
    fn moves(&self, windows: &[Window]) -> Result<Moves, Error> {
        let mut moves = Moves::default();
        if windows.is_empty() {
            return Ok(moves);
        }
        let mut sorted: Vec<&Window> = windows.iter().collect();
        sorted.sort_by_key(|window| window.range.start);
        // The only window that can contain it: they do not overlap.
        let leads = |at: u64| {
            let before = sorted.partition_point(|window| window.range.start < at);
            sorted[..before].last().and_then(|window| window.leads(at))
        };
        for (index, thread) in self.threads.iter().enumerate() {
            let (next, behind) = restart::next_instruction(&thread.registers);
            match leads(next) {
                None => {}
                Some(Some(to)) => moves.threads.push((index, to + behind)),
                Some(None) => return Err(Error::Standing { tid: thread.tid, address: next }),
            }
        }
        for tid in self.waiting() {
            // Its registers cannot be changed: it is in a system call, and may be behind it.
            let at = self.positions().into_iter().find(|position| position.0 == tid);
            if let Some((tid, address)) = at
                && leads(address).is_some()
            {
                return Err(Error::Standing { tid, address });
            }
        }
        for (_, frame) in self.interrupted()? {
            // One that says that it comes back to no instruction does not: its handler is over.
            if let Some(Some(to)) = leads(frame.instruction) {
                moves.frames.push((frame.place, to));
            }
        }
        Ok(moves)
    }
}

/// Patches in one page, written at once with what lies between them: as long as nobody runs, that
/// does not change.
struct Place<'a> {
    start: u64,
    length: usize,
    patches: Vec<&'a Patch>,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// The patches by page, ascending. An error if two overlap, or one changes lengths or lies in two
/// pages.
fn places(patches: &[Patch]) -> Result<Vec<Place<'_>>, Error> {
    let mut sorted: Vec<&Patch> = patches.iter().collect();
    sorted.sort_by_key(|patch| patch.address);
    let mut places: Vec<Place<'_>> = Vec::new();
    for patch in sorted {
        let changed = Error::Changed { address: patch.address };
        let end = patch.address.checked_add(patch.old.len() as u64);
        let Some(end) = end.filter(|_| patch.old.len() == patch.new.len()) else {
            return Err(changed);
        };
        let page = patch.address / arch::PAGE;
        match places.last_mut() {
            Some(last) if patch.address < last.start + last.length as u64 => return Err(changed),
            _ if page != end.saturating_sub(1).max(patch.address) / arch::PAGE => {
                return Err(Error::TwoPages { address: patch.address });
            }
            Some(last) if last.start / arch::PAGE == page => {
                last.length = (end - last.start) as usize;
                last.patches.push(patch);
            }
            _ => places.push(Place {
                start: patch.address,
                length: patch.old.len(),
                patches: vec![patch],
                old: Vec::new(),
                new: Vec::new(),
            }),
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::{Error, Patch, Window, places};

    fn patch(address: u64, length: usize) -> Patch {
        Patch { address, old: vec![0; length], new: vec![1; length] }
    }

    #[test]
    fn patches_are_written_page_by_page() {
        let all = [patch(0x2ffb, 5), patch(0x2010, 5), patch(0x3000, 5), patch(0x3100, 5)];
        let found = places(&all).expect("apart");
        let found: Vec<_> = found.iter().map(|p| (p.start, p.length, p.patches.len())).collect();
        assert_eq!(found, [(0x2010, 0xff0, 2), (0x3000, 0x105, 2)]);
    }

    #[test]
    fn what_cannot_be_written_at_once_is_refused() {
        for at in 0x2ffc..0x3000 {
            let all = [patch(0x2010, 5), patch(at, 5)];
            let refused = places(&all).map(drop);
            assert!(
                matches!(refused, Err(Error::TwoPages { address }) if address == at),
                "{at:#x}: {refused:?}"
            );
        }
    }

    #[test]
    fn patches_that_overlap_or_change_lengths_are_refused() {
        assert!(places(&[patch(0x1000, 5), patch(0x1004, 5)]).is_err());
        assert!(places(&[patch(0x1ffe, 5), patch(0x2002, 5)]).is_err());
        assert!(places(&[Patch { new: vec![1; 4], ..patch(0x1000, 5) }]).is_err());
        assert!(places(&[patch(u64::MAX - 1, 5)]).is_err());
    }

    #[test]
    fn only_what_is_inside_moves() {
        let window = Window { range: 10..17, moved: vec![(10, 100), (13, 103)] };
        assert_eq!(window.leads(10), None, "has executed nothing of it");
        assert_eq!(window.leads(13), Some(Some(103)));
        assert_eq!(window.leads(15), Some(None), "no instruction");
        assert_eq!(window.leads(17), None);
    }

    #[test]
    fn there_and_back() {
        let patch = Patch { address: 1, old: vec![1, 2], new: vec![3, 4] };
        assert_eq!(patch.reversed().reversed(), patch);
        assert_eq!(patch.reversed().old, [3, 4]);
    }
}
