//! When the memory for stacks is used up, every hit is still counted.
#![allow(unsafe_code)]

mod common;

use common::{ROOMY, STACKS, cell, counts, hit, segment, start};
use wire::cell::CALLS;
use wire::{NoStack, Stacks};

#[test]
fn what_has_no_room_is_counted_without_a_stack() {
    start(Stacks { depot_bytes: 256 << 10, ..ROOMY });
    (0..STACKS).for_each(hit);
    let first = counts();
    (0..2 * STACKS).for_each(hit);
    let counts = counts();
    let (with, without) = (counts.values().sum::<u64>(), segment().without_stack(NoStack::Full));
    assert!(first.len() > 200 && first.len() < STACKS as usize, "{} stacks", first.len());
    assert_eq!(counts.len(), first.len(), "what was there stays");
    assert!(without > 0);
    assert_eq!((cell(CALLS), with + without), (3 * STACKS, 3 * STACKS));
}
