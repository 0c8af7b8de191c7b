//! Trampolines: what a jump leads to that was written under running threads.
//!
//! Where the five bytes held more than one instruction, the jump's displacement must trap at each
//! inner boundary ([`patch::trap_safe`]), so its target cannot be chosen freely: a trampoline at a
//! suitable address leads on to the stub.
#![allow(unsafe_code)]

use crate::mapping::map_at;
use crate::text::Text;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use core::ptr;
use patch::trap_safe_targets;
use sys::memory::{self, PROT_EXEC, PROT_READ};

const PAGE: u64 = 4096;
/// `jmp [rip + 0]` and the address.
pub(crate) const TRAMPOLINE: u64 = 14;
/// How far a jump reaches, with a margin for its own length.
const REACH: u64 = (1 << 31) - 64;
/// Candidates that are tried in one hole of the address space.
const TRIES: usize = 64;

#[derive(Debug, Default)]
struct Page {
    /// Offsets of the trampolines in it, ascending.
    trampolines: Vec<u64>,
    executable: bool,
}

/// Pages that are looked at for room: the newest ones, so that the thousandth batch costs what the
/// first did. A page that has become old keeps what room it has.
const LOOKED_AT: usize = 32;

/// All pages with trampolines. Never given back.
#[derive(Debug, Default)]
pub(crate) struct Trampolines {
    pages: BTreeMap<u64, Page>,
    /// Pages that were used last, the newest first, at most [`LOOKED_AT`].
    recent: VecDeque<u64>,
}

impl Trampolines {
    /// Makes a trampoline to `stub` for the site, in an old page if one will do. `None`: there is
    /// no room at any suitable address.
    pub(crate) fn make(
        &mut self,
        site: u64,
        boundaries: &[u8],
        stub: u64,
        gaps: &[Range<u64>],
        text: &Text,
    ) -> Option<u64> {
        let reach = site.saturating_sub(REACH)..site.saturating_add(REACH);
        let at = self
            .in_old_page(site, boundaries, &reach)
            .or_else(|| self.in_new_page(site, boundaries, &reach, gaps))?;
        let mut code = vec![0xff, 0x25, 0, 0, 0, 0];
        code.extend_from_slice(&stub.to_le_bytes());
        let page = self.pages.get_mut(&(at / PAGE * PAGE))?;
        if page.executable {
            if !text.write(at, &code) {
                return None;
            }
        } else {
            // SAFETY: the bytes lie in a writable page of ours that nobody runs yet, and no
            // trampoline is there.
            unsafe {
                ptr::copy_nonoverlapping(
                    code.as_ptr(),
                    ptr::with_exposed_provenance_mut(at as usize),
                    code.len(),
                )
            };
        }
        let place = page.trampolines.partition_point(|h| *h < at % PAGE);
        page.trampolines.insert(place, at % PAGE);
        Some(at)
    }

    fn in_old_page(&self, site: u64, boundaries: &[u8], reach: &Range<u64>) -> Option<u64> {
        let usable =
            |start: u64| start.max(reach.start)..(start + PAGE - TRAMPOLINE + 1).min(reach.end);
        self.recent.iter().filter(|start| reach.contains(start)).find_map(|start| {
            let page = self.pages.get(start)?;
            trap_safe_targets(site, boundaries, usable(*start))
                .find_map(|run| page.free_in(run.start - start..run.end - start))
                .map(|offset| start + offset)
        })
    }

    fn in_new_page(
        &mut self,
        site: u64,
        boundaries: &[u8],
        reach: &Range<u64>,
        gaps: &[Range<u64>],
    ) -> Option<u64> {
        let mut near: Vec<_> =
            gaps.iter().filter(|g| g.start < reach.end && reach.start < g.end).collect();
        sys::sort::by_key(&mut near, |g| {
            if g.contains(&site) { 0 } else { g.start.abs_diff(site).min(g.end.abs_diff(site)) }
        });
        for gap in near {
            let usable =
                (gap.start + PAGE).max(reach.start)..(gap.end.saturating_sub(PAGE)).min(reach.end);
            for run in trap_safe_targets(site, boundaries, usable).take(TRIES) {
                let (at, start) = (run.start, run.start / PAGE * PAGE);
                if at % PAGE + TRAMPOLINE > PAGE
                    || self.pages.contains_key(&start)
                    || !map_at(start, PAGE)
                {
                    continue;
                }
                self.pages.insert(start, Page::default());
                self.recent.truncate(LOOKED_AT - 1);
                self.recent.push_front(start);
                return Some(at);
            }
        }
        None
    }

    /// Makes all trampolines executable.
    pub(crate) fn seal(&mut self) -> bool {
        self.pages.iter_mut().filter(|(_, p)| !p.executable).all(|(start, page)| {
            let at = ptr::with_exposed_provenance_mut(*start as usize);
            // SAFETY: the page is ours.
            let done = unsafe { memory::mprotect(at, PAGE as usize, PROT_READ | PROT_EXEC) };
            page.executable = done.is_ok();
            page.executable
        })
    }

    /// Bytes mapped.
    pub(crate) fn bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }
}

impl Page {
    /// An offset in `run` where a trampoline overlaps no other.
    fn free_in(&self, run: Range<u64>) -> Option<u64> {
        let mut at = run.start;
        // From the first trampoline that ends behind the candidate on.
        for trampoline in
            &self.trampolines[self.trampolines.partition_point(|h| h + TRAMPOLINE <= at)..]
        {
            if at + TRAMPOLINE <= *trampoline {
                break;
            }
            at = trampoline + TRAMPOLINE;
        }
        (run.contains(&at) && at + TRAMPOLINE <= PAGE).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::{Page, TRAMPOLINE};
    use alloc::vec;

    #[test]
    fn hops_do_not_overlap() {
        let page = Page { trampolines: vec![100, 114, 200], executable: false };
        assert_eq!(page.free_in(90..300), Some(128));
        assert_eq!(page.free_in(0..300), Some(0));
        assert_eq!(page.free_in(87..128), None);
        assert_eq!(page.free_in(4090..4096), None);
        assert_eq!(page.free_in(195..300), Some(200 + TRAMPOLINE));
    }
}
