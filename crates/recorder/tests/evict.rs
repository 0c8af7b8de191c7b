//! Old stacks give way to new ones when the memory is used up, and every hit is still counted.
#![allow(unsafe_code)]

mod common;

use common::{ROOMY, STACKS, cell, counts, frames, hit, segment, start};
use wire::cell::CALLS;
use wire::{NoStack, Stacks};

#[test]
fn new_stacks_are_kept_and_all_hits_counted() {
    start(Stacks { depot_bytes: 256 << 10, evict: true, ..ROOMY });
    let mut made = 0;
    // All stacks in turn; then a few of them, over and over.
    for round in 0..40 {
        (0..STACKS).for_each(hit);
        made += STACKS;
        for stack in 0..50 {
            (0..100).for_each(|_| hit(stack * 13 + round));
            made += 100;
        }
    }
    let counts = counts();
    let evicted = counts.get(&0).copied().unwrap_or(0);
    let with: u64 = counts.values().sum();
    let without = segment().without_stack(NoStack::Full);
    assert!(evicted > 0, "stacks gave way");
    assert_eq!((cell(CALLS), with + without), (made, made));
    // The last ones are there: the room of old ones went to them.
    let kept = counts.iter().filter(|(handle, n)| **handle != 0 && **n >= 100).count();
    assert!(kept >= 25, "{kept} of the last 50 stacks");
    assert!(counts.keys().filter(|handle| **handle != 0).all(|handle| !frames(*handle).is_empty()));
}
