//! A record's contents pass from one owner to the next; two threads never own one record.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use percpu::Registry;

#[test]
fn a_record_has_one_owner_who_sees_what_the_last_one_left() {
    loom::model(|| {
        let registry: Arc<Registry<AtomicU64>> = Arc::new(Registry::new());
        let use_one = |registry: &Registry<AtomicU64>| {
            let record = registry.acquire().expect("memory");
            // Relaxed both: only the record's own hand-over orders them.
            assert_eq!(
                record.load(Ordering::Relaxed),
                0,
                "another owner is in it, or its clean-up is not visible"
            );
            record.store(1, Ordering::Relaxed);
            record.store(0, Ordering::Relaxed);
            record.release();
        };
        let other = {
            let registry = registry.clone();
            loom::thread::spawn(move || use_one(&registry))
        };
        use_one(&registry);
        other.join().expect("no panic");
        assert!(registry.iter().all(|r| !r.is_alive()));
    });
}
