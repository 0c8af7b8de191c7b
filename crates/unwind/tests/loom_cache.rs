//! A walk beside a thread that learns: what it finds of an address is whole, or nothing.
#![cfg(loom)]

use loom::sync::Arc;
use std::sync::atomic::Ordering;
use unwind::cache::model::Line;

const KEY: u64 = 0x1000;

fn whole_or_nothing(line: Line, publish: Ordering) {
    let line = Arc::new(line);
    let theirs = Arc::clone(&line);
    let walk = loom::thread::spawn(move || {
        let found = theirs.known(KEY);
        assert!(found.is_none() || found == Some((9, 90)), "{found:?}");
    });
    line.set(KEY, 9, 90, publish);
    walk.join().unwrap();
    assert_eq!(line.known(KEY), Some((9, 90)));
}

#[test]
fn an_address_that_is_new() {
    loom::model(|| whole_or_nothing(Line::forgotten(0), Ordering::Release));
}

#[test]
fn an_address_that_was_forgotten() {
    loom::model(|| whole_or_nothing(Line::forgotten(KEY), Ordering::Release));
}

/// Twin of the first: the entry is announced without Release.
#[test]
#[should_panic]
fn announced_too_early() {
    loom::model(|| whole_or_nothing(Line::forgotten(0), Ordering::Relaxed));
}

/// Twin of the second.
#[test]
#[should_panic]
fn announced_again_too_early() {
    loom::model(|| whole_or_nothing(Line::forgotten(KEY), Ordering::Relaxed));
}
