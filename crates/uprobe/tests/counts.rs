//! Calls, returns and times: nesting, recursion, tail calls, branches back to the first byte,
//! threads.
#![allow(unsafe_code)]

mod common;

use common::{ENTRY, arm, arm_with, buckets, calls, cell, returns, sum, through, untimed, unwound};
use patch::Liveness;
use std::thread;
use uprobe::testing::Kind;
use wire::cell::{MAX, SELF, TOTAL};

#[test]
fn nested_calls_have_their_own_times() {
    const OUTER: u32 = cell(0);
    const INNER: u32 = cell(1);
    arm(common::wrap_a as *const () as usize, Kind::Time(OUTER));
    arm(common::wrap_b as *const () as usize, Kind::Time(INNER));
    for _ in 0..100 {
        through(common::wrap_a, || {
            for _ in 0..3 {
                through(common::wrap_b, || {
                    std::hint::black_box(0);
                });
            }
        });
    }
    assert_eq!((calls(OUTER), returns(OUTER), buckets(OUTER)), (100, 100, 100));
    assert_eq!((calls(INNER), returns(INNER), buckets(INNER)), (300, 300, 300));
    assert_eq!(sum(INNER, TOTAL), sum(INNER, SELF), "nothing is called in the inner one");
    assert_eq!(
        sum(OUTER, TOTAL) - sum(OUTER, SELF),
        sum(INNER, TOTAL),
        "the outer one's own time is without the inner one's"
    );
    assert!(sum(OUTER, MAX) * 100 >= sum(OUTER, TOTAL));
    assert_eq!(unwound(OUTER) + unwound(INNER) + untimed(OUTER) + untimed(INNER), 0);
}

#[test]
fn recursion_100_000_deep_is_exact() {
    const CELL: u32 = cell(2);
    arm(common::recurse as *const () as usize, Kind::Time(CELL));
    let deep = thread::Builder::new().stack_size(64 << 20).spawn(|| {
        for _ in 0..3 {
            // SAFETY: 16 bytes of stack for each level.
            assert_eq!(unsafe { common::recurse(100_000) }, 100_000);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { common::recurse(1) }, 1);
    });
    deep.expect("a thread").join().expect("no panic");
    assert_eq!((calls(CELL), returns(CELL), buckets(CELL)), (300_001, 300_001, 300_001));
    assert_eq!((untimed(CELL), unwound(CELL)), (0, 0));
    assert!(sum(CELL, SELF) <= sum(CELL, TOTAL));
}

#[test]
fn tail_calls_are_calls() {
    const PING: u32 = cell(3);
    const PONG: u32 = cell(4);
    arm(common::ping as *const () as usize, Kind::Time(PING));
    arm(common::pong as *const () as usize, Kind::Pair(PONG));
    for n in [1, 2, 3, 50, 63, 64, 65, 66, 1000, 100_001] {
        let before = (calls(PING), calls(PONG));
        // SAFETY: it ends after n jumps.
        assert_eq!(unsafe { common::ping(n) }, 77);
        assert_eq!((calls(PING) - before.0, calls(PONG) - before.1), (n.div_ceil(2), n / 2), "{n}");
    }
    assert_eq!((returns(PING), returns(PONG)), (calls(PING), calls(PONG)));
    assert_eq!(buckets(PING), calls(PING));
}

#[test]
fn a_branch_back_to_the_first_byte_is_not_a_call() {
    // A cell of its own: the counting part of one that is otherwise unused here.
    const CELL: u32 = cell(4) + wire::cell::TIMED_BYTES as u32;
    arm_with(
        common::spin as *const () as usize,
        Kind::Pair(CELL),
        &Liveness { red_zone: true, flags: true, ..ENTRY },
        true,
    );
    for n in [1, 2, 100, 10_000] {
        // SAFETY: it ends after n rounds.
        assert_eq!(unsafe { common::spin(n, 0) }, n, "what it keeps in its red zone is untouched");
    }
    assert_eq!((calls(CELL), returns(CELL)), (4, 4));
}

#[test]
fn eight_threads_are_exact() {
    const COUNT: u32 = 0;
    const TIME: u32 = cell(4) + wire::cell::TIMED_BYTES as u32 + 64;
    arm(common::leaf_a as *const () as usize, Kind::Count(COUNT));
    arm_with(
        common::leaf_b as *const () as usize,
        Kind::Pair(TIME),
        &Liveness { red_zone: false, ..Liveness::ALL },
        false,
    );
    thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for n in 0..100_000 {
                    // SAFETY: adds one.
                    assert_eq!(unsafe { common::leaf_a(n) }, n + 1);
                    // SAFETY: adds one.
                    assert_eq!(unsafe { common::leaf_b(n) }, n + 1);
                }
            });
        }
    });
    assert_eq!(calls(COUNT), 800_000);
    assert_eq!((calls(TIME), returns(TIME)), (800_000, 800_000));
}
