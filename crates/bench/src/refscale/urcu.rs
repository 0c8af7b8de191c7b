//! Reader rows of liburcu, where it is installed.
#![allow(unsafe_code)]

use super::case::Readers;
use crate::harness::Entry;
#[cfg(not(urcu))]
use crate::harness::Role;

#[cfg(not(urcu))]
const WHY: &str = "not installed (Debian: liburcu-dev)";

/// Rows of the three flavours.
#[cfg(not(urcu))]
pub(super) fn readers() -> Vec<Entry<Readers>> {
    ["liburcu memb", "liburcu qsbr", "liburcu bp"]
        .map(|name| Entry::absent(name, Role::Peer, WHY))
        .into()
}

/// Rows of the three flavours.
#[cfg(urcu)]
pub(super) fn readers() -> Vec<Entry<Readers>> {
    vec![installed::memb(), installed::qsbr(), installed::bp()]
}

#[cfg(urcu)]
mod installed {
    use super::super::flavours::Published;
    use super::{Entry, Readers};
    use crate::harness::{Job, Role};
    use std::hint::black_box;

    macro_rules! flavour {
        ($row:ident, $name:literal, $register:ident, $unregister:ident, $read:ident) => {
            unsafe extern "C" {
                fn $register();
                fn $unregister();
                fn $read(source: *const *mut u64, loops: u64) -> u64;
            }

            pub(super) fn $row() -> Entry<Readers> {
                Entry::new($name, Role::Peer, |_: &Readers| {
                    let published = Published::new();
                    let job: Job = Box::new(move |_, meter| {
                        // SAFETY: this thread is not registered yet.
                        unsafe { $register() };
                        meter.run(|loops| {
                            // SAFETY: the thread is registered, and the source points to an object
                            // that outlives the call.
                            black_box(unsafe {
                                $read(published.pointer().as_ptr().cast_const(), loops)
                            });
                        });
                        // SAFETY: this thread is registered and inside no section.
                        unsafe { $unregister() };
                    });
                    Some(job)
                })
            }
        };
    }

    flavour!(
        memb,
        "liburcu memb",
        trapline_urcu_memb_register,
        trapline_urcu_memb_unregister,
        trapline_urcu_memb_read
    );
    flavour!(
        qsbr,
        "liburcu qsbr",
        trapline_urcu_qsbr_register,
        trapline_urcu_qsbr_unregister,
        trapline_urcu_qsbr_read
    );
    flavour!(
        bp,
        "liburcu bp",
        trapline_urcu_bp_register,
        trapline_urcu_bp_unregister,
        trapline_urcu_bp_read
    );
}
