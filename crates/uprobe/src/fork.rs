//! What a fork changes for the engine: the thread that forks goes on in two processes, and the
//! child must not write into the block of its parent's thread, which the parent goes on writing.
//!
//! From the handler before the fork to those behind it the thread is [`Busy::Forking`]: its hits
//! take the slow path. In the parent that counts as always. In the child it writes down what it
//! would have counted ([`crate::unsettled`]), and the child's handler adds that to the child's new
//! block. Consumers, whose tables are the parent's, too, are told there that they cannot run.
//!
//! A program that forks by `_Fork` or by a system call of its own runs no handlers: its child
//! counts into its parent's block. In an image there are none of these handlers, and every child
//! finds out by itself ([`crate::thread`]).
#![allow(unsafe_code)]

use crate::arch::x86_64::tls;
use crate::process::global;
use crate::recorder::Hooks;
use crate::thread::{self, SetupError};
use crate::thread_state::{Busy, busy, idle, own, publish, set_busy, states};
use crate::{activation, host, kernel, pending, unsettled, wipe_on_fork};
use core::sync::atomic::Ordering;

/// Sets up everything that hits need, in this process and in its children. A second call changes
/// nothing.
pub(crate) fn start(hooks: Hooks) -> Result<(), SetupError> {
    if thread::start(hooks)? {
        // After percpu's own handler, which `start` has installed: that one says who has survived.
        // Without memory for it, children count into their parents' blocks.
        host::on_fork(before, parent, child);
    }
    Ok(())
}

unsafe extern "C" fn before() {
    if own().is_some() && busy() == Busy::No {
        // In this order: a handler in between may use either way.
        set_busy(Busy::Forking);
        tls::set::<{ tls::STATE }>(0);
    }
}

unsafe extern "C" fn parent() {
    if busy() == Busy::Forking {
        if let Some(state) = idle() {
            publish(state);
        }
        set_busy(Busy::No);
    }
}

/// In the child, whose only thread this is.
unsafe extern "C" fn child() {
    let Some(global) = global() else { return };
    let mask = kernel::block_signals();
    let (forking, word) = (busy() == Busy::Forking, tls::get::<{ tls::BUSY }>());
    // What the hooks call is no business of the program.
    set_busy(Busy::Own);
    tls::set::<{ tls::STATE }>(0);
    thread::forget_parents(global);
    if let Some(first) = own() {
        first.word.store(0, Ordering::Relaxed);
        let block = (global.hooks.thread_start)();
        states().for_each(|state| state.block.store(block.expose_provenance(), Ordering::Relaxed));
        unsettled::settle(block.expose_provenance());
        if block.is_null() {
            tls::set::<{ tls::OWN }>(0);
        } else {
            states().for_each(activation::rebuild);
            states().for_each(pending::rebuild);
        }
    }
    wipe_on_fork::own_memory();
    tls::set::<{ tls::BUSY }>(word);
    if forking && own().is_none() {
        set_busy(Busy::NoBlock);
    }
    // SAFETY: the handler that is the parent's, too.
    unsafe { parent() };
    kernel::restore_signals(mask);
}
