//! `light()`/`heavy()` under the model checker, and the twin without them.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use percpu::fence::{heavy, light};

fn store_buffering(reader: fn(), writer: fn()) {
    loom::model(move || {
        let cells = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
        let other = {
            let cells = cells.clone();
            loom::thread::spawn(move || {
                cells.0.store(1, Ordering::Relaxed);
                reader();
                cells.1.load(Ordering::Relaxed)
            })
        };
        cells.1.store(1, Ordering::Relaxed);
        writer();
        let here = cells.0.load(Ordering::Relaxed);
        let there = other.join().expect("no panic");
        assert!(here == 1 || there == 1, "both sides blind");
    });
}

#[test]
fn one_side_sees_the_other() {
    store_buffering(light, heavy);
}

#[test]
#[should_panic(expected = "both sides blind")]
fn twin_without_the_light_fence() {
    store_buffering(|| {}, heavy);
}

#[test]
#[should_panic(expected = "both sides blind")]
fn twin_without_the_heavy_fence() {
    store_buffering(light, || {});
}
