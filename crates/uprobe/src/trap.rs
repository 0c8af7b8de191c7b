//! A hit that comes by a trap: the same as by a stub, on the registers of the interrupted thread.

use crate::context::Context;
use crate::site_table::{self, Action};
use crate::{consumer, instance, slow_path};
use patch::Registers;

/// What the trap handler does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Goes on with the instruction at the site: in its slot, or by emulation.
    Site,
    /// Goes on with the registers as they are now: a return instance was made, whose stub calls the
    /// site's `body`, or a consumer has moved the instruction pointer.
    Registers,
}

/// Does what the site's action says. `registers` are those of the thread at the site, `rip` being
/// the site's address. With an action that makes return instances the site needs a `body` (the
/// permanent slot) even if its instruction could be emulated.
///
/// Context: signal-safe; for the SIGTRAP handler, which has saved all registers, those of vectors
/// included, and puts them back.
pub(crate) fn entry(index: u32, registers: &mut Registers) -> Next {
    let site = site_table::site(index);
    let made = match site.action() {
        None => None,
        Some(Action::Call) => {
            let address = registers.rip;
            let mut context =
                Context { registers: *registers, site: index, pad: [0; 3], xmm: [[0; 2]; 16] };
            let made = consumer::call(&mut context, site, index);
            *registers = context.registers;
            if made.is_none() && registers.rip != address {
                return Next::Registers;
            }
            made
        }
        Some(_) => match slow_path::hit(site, index, registers.rsp, None) {
            slow_path::Made::Instance(at) => Some(at),
            slow_path::Made::SameCall | slow_path::Made::Nothing => None,
        },
    };
    match made {
        None => Next::Site,
        Some(at) => {
            registers.rsp += 8;
            registers.rip = instance::stub(at);
            Next::Registers
        }
    }
}
