//! Hazard pointers: a reader says which object it is looking at, and that object is not freed.
//!
//! After Maged Michael, *Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects* (IEEE TPDS
//! 15(6), 2004); the interface learned from folly's `Hazptr.h` (cohorts, protection arrays), C++26
//! `<hazard_pointer>`, and the hazptr series on the Linux kernel list (wildcard slots, detaching).
//! The reader's fence is the light half of an [asymmetric fence](percpu::fence).
//!
//! # What you give, what you get
//! A reader announces a pointer in a slot ([`HazardPointer`], [`scope`]) and looks once more
//! whether it is still current. A writer unlinks an object and [retires](Domain::retire) it; it is
//! freed once no slot announces it. Readers never wait and write no shared line; a stalled reader
//! keeps one object from being freed, not all of them.
//!
//! [`Shared`] is the whole of it without unsafe code, for one value that is replaced as a whole;
//! [`AtomicOwned`] adds swap, compare-and-exchange, and the object that was taken out.
//!
//! # When not
//! Traversing a long structure under one protection is [RCU](crate)'s strength: here every step is
//! a protection of its own. If readers sleep for long, SRCU says so better. If what you need is "is
//! anybody using this?" rather than "keep this alive", see `percpu_ref`.
//!
//! # Bounds and costs
//! At most L = max(1000, 2 × slots) objects of a [`Domain`] are retired and not reclaimed, however
//! long readers stall, and L/8 more for each further thread that reclaims at the same time, however
//! long deleters take; the exact statement is there. Measured on a 2-core EPYC VM (CPU time):
//! protect + reset on a kept holder 0.55 ns when the compiler has it in registers and 0.7 when it
//! does not, [`read`] with a slot from thread-local storage 0.75 ns, both independent of the number
//! of readers (crossbeam-epoch: 3.3); retiring and reclaiming 6 to 8 ns on top of malloc + free
//! (crossbeam-epoch: 23). A round costs one cache line per thread and, unless no other thread has
//! ever protected anything, a membarrier (0.35 µs when no other thread runs, 8 µs with a running
//! sibling). [`Domain::retire_box`] costs a second allocation.
//!
//! # Signals, exit, fork
//! Every operation of a reader is signal-safe, and so is [`Domain::retire_deferred`]; handlers use
//! [`scope`], or holders that they drop before they return. Nothing is lost when a thread exits:
//! retired objects are on the domain's lists from the start, and a protection that was handed off
//! or leaked goes on. A fork child forgets the protections of the threads that did not come along
//! and takes over the rounds that they were in.
//!
//! # The traps of the kernel series, and what happens here
//! | trap | here |
//! |---|---|
//! | a slot found in use stays in the scan's set after it is emptied | every round looks afresh; nothing is remembered between rounds |
//! | the work item that waits for a slot re-queues itself without delay | no round waits for a slot: what is protected goes back to the list until the next round is due |
//! | `protect` takes a concurrent change of the pointer for a bug | the new pointer is the next guess |
//! | equal pointers lose the address dependency | the second load is Acquire, and it is its result that is used |
//! | one global lock around every callback, one worker for all | no locks; rounds run in parallel |
//! | cleaning up drops a live protection | a slot is taken back from its last holder only |
//! | a wildcard makes the scan spin | the round ends, freeing nothing |
//!
//! # Source layout
//! `slot` is the protocol, `snapshot` what a round knows, `domain`, `retire` and `lists` are about
//! objects that wait, `round` and `wait` about what is done with them; `claims`, `block`, `thread`
//! about whose slots are whose; `hazard`, `scope`, `protected`, `shared`, `atomic_owned` are what
//! readers use.

#[cfg(all(feature = "alloc", not(loom)))]
mod atomic_owned;
#[cfg(not(loom))]
mod block;
mod claims;
#[cfg(not(loom))]
mod domain;
#[cfg(not(loom))]
mod hazard;
mod head;
#[cfg(all(feature = "std", not(loom)))]
mod helper;
mod lists;
#[cfg(all(feature = "alloc", not(loom)))]
mod node;
#[cfg(not(loom))]
mod order;
mod owner;
#[cfg(not(loom))]
mod protected;
#[cfg(not(loom))]
mod retire;
#[cfg(not(loom))]
mod round;
#[cfg(not(loom))]
mod scope;
#[cfg(all(feature = "alloc", not(loom)))]
mod shared;
mod slot;
mod snapshot;
#[cfg(not(loom))]
mod thread;
#[cfg(not(loom))]
mod wait;
#[cfg(all(feature = "std", not(loom)))]
mod wake;

#[cfg(all(feature = "alloc", not(loom)))]
pub use atomic_owned::{AtomicOwned, Owned, Unlinked};
#[cfg(not(loom))]
pub use domain::{Domain, Policy, Stats};
#[cfg(not(loom))]
pub use hazard::{Hazard, HazardPointer, OutOfSlots};
#[cfg(feature = "alloc")]
#[doc(hidden)]
pub use head::private;
pub use head::{Head, Retirable};
#[cfg(all(feature = "std", not(loom)))]
pub use helper::Helper;
pub use owner::Owner;
#[cfg(not(loom))]
pub use protected::{Detached, Protected};
#[cfg(not(loom))]
pub use scope::{read, scope, scope_array};
#[cfg(all(feature = "alloc", not(loom)))]
pub use shared::Shared;
#[cfg(not(loom))]
pub use wait::{SelfProtected, synchronize, try_synchronize};

/// The parts of the protocol, for models.
#[cfg(loom)]
#[doc(hidden)]
pub mod model {
    pub use super::claims::{Claims, LastOne, SLOTS};
    pub use super::lists::chain_len;
    pub use super::lists::{Kept, Refused, Stack};
    pub use super::slot::{Seen, Slot};
    pub use super::snapshot::Snapshot;
    pub use crate::asymmetric::{Asymmetric, Fences};
}
