//! Code that is written by somebody else: what has to be written, for whoever stops all threads
//! from outside and writes it while nobody runs.

use crate::refusal::Refusal;
use crate::site_table;
use crate::sites::{Patching, State};
use crate::trap_table::Meaning;
use alloc::{vec, vec::Vec};
use core::ops::Range;
use patch::Detour;
use sys::memory::PAGE;

/// Bytes of the program's code that are to be replaced, and what a thread is to do that stands
/// among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Address of the first byte.
    pub address: u64,
    /// What has to be there.
    pub old: Vec<u8>,
    /// What is to be there: as many bytes.
    pub new: Vec<u8>,
    /// The instructions that the new bytes displace, from `address` on. A thread at the first byte
    /// has executed none of them, and may stay: it executes what is written. A function that was
    /// moved as a whole is displaced up to its end, beyond the new bytes.
    pub range: Range<u64>,
    /// Where instructions of `range` begin, ascending, and where the copy of each is: where a
    /// thread has to go on that would go on there, but for the first. Empty where no thread can be
    /// inside.
    pub moved: Vec<(u64, u64)>,
}

/// What whoever writes knows of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Breakpoints may be set, where a jump has no room, or would lie in two pages; a handler for
    /// SIGTRAP is installed if one is (with the feature `std` also for SIGILL). The program's calls
    /// have to come by [`signals`](crate::signals) from then on, and no thread of it may block
    /// SIGTRAP.
    pub traps: bool,
    /// No thread has run any of the code.
    pub unused: bool,
}

/// What is written at a site, and what a trap there means.
pub(crate) type Written = (Vec<u8>, Option<(u64, Meaning)>);

/// How a stub is led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Jump,
    /// By a breakpoint, whose handler goes on there.
    Trap,
}

impl Way {
    /// How the stub of this detour can be led to. `patching`: none, if somebody else writes.
    pub(crate) fn of(
        detour: &Detour,
        patching: Option<Patching>,
        outside: Outside,
    ) -> Result<Self, Refusal> {
        if patching.is_some() {
            return Ok(Self::Jump);
        }
        if !outside.unused && waits_inside(detour) {
            return Err(Refusal::SystemCall);
        }
        match in_two_pages(detour.site()) {
            false => Ok(Self::Jump),
            true if outside.traps => Ok(Self::Trap),
            true => Err(Refusal::TwoPages),
        }
    }

    /// What is written at `site`, so that it leads to `stub`.
    pub(crate) fn patch(self, site: u64, stub: u64) -> Result<Written, Refusal> {
        match self {
            Self::Jump => {
                let jump = patch::jump(site, stub).ok_or(Refusal::NoRoom)?;
                Ok((jump.to_vec(), None))
            }
            Self::Trap => Ok((vec![INT3], Some((site, Meaning::GoOn(stub))))),
        }
    }
}

const INT3: u8 = 0xcc;

/// Whether a thread that waits in a system call, in a signal handler above it, comes back among the
/// bytes that the jump takes. What looks like a system call is taken for one.
fn waits_inside(detour: &Detour) -> bool {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    detour.boundaries().iter().any(|at| {
        let (before, behind) = detour.original().split_at(usize::from(*at));
        before.ends_with(&SYSCALL) || behind.starts_with(&SYSCALL)
    })
}

/// Whether a jump at this address lies in two pages, which nobody writes in one step: if whoever
/// does it is killed in between, the program runs into half a jump.
fn in_two_pages(site: u64) -> bool {
    const JUMP: u64 = 5;
    site % PAGE as u64 > PAGE as u64 - JUMP
}

/// Takes these sites for armed, and says what has to be written for it.
pub(crate) fn arm(state: &mut State, sites: &[u64]) -> Vec<Change> {
    change(state, sites, true)
}

/// Takes these sites for disarmed.
pub(crate) fn restore(state: &mut State, sites: &[u64]) -> Vec<Change> {
    change(state, sites, false)
}

fn change(state: &mut State, sites: &[u64], armed: bool) -> Vec<Change> {
    let mut changes = Vec::with_capacity(sites.len());
    for address in sites {
        let Some(site) = state.sites.get_mut(address).filter(|site| site.armed != armed) else {
            continue;
        };
        (site.armed, site.stale) = (armed, !armed);
        // Until the original is written again, calls begin and end as before.
        if armed {
            site_table::site(site.index).note_armed(true);
        }
        let (patch, original) = (site.patch.clone(), site.original[..site.patch.len()].to_vec());
        changes.push(if armed {
            // Of a breakpoint it is one byte, and no thread is inside of that.
            let displaced = if patch.len() > 1 { site.original.len() as u64 } else { 0 };
            let range = *address..address + displaced;
            let moved = site.moved.to_vec();
            Change { address: *address, old: original, new: patch, range, moved }
        } else {
            let range = *address..address + patch.len() as u64;
            Change { address: *address, old: patch, new: original, range, moved: Vec::new() }
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::{Vec, in_two_pages};

    #[test]
    fn a_jump_fits_into_a_page_up_to_its_end() {
        let split: Vec<u64> = (0x1000..0x2010).filter(|site| in_two_pages(*site)).collect();
        assert_eq!(split, [0x1ffc, 0x1ffd, 0x1ffe, 0x1fff]);
    }
}
