//! What a thread is told to be free is free for it: a push that is known to be over is seen by the
//! next pop, on any thread and however many others pass objects around. folly's `no_starvation`.

use crate::common::{ALL, Owned, check_full, give, take};
use objpool::Pool;
use std::sync::mpsc;
use std::thread;

/// As many permits as objects go around: a thread pops only with a permit, and a permit is given
/// after a push. So no pop may find nothing, though the pool is empty most of the time.
#[test]
fn a_permit_is_an_object() {
    const OBJECTS: usize = 6;
    const PAIRS: usize = 3;
    const ROUNDS: usize = 3000;
    for kind in ALL {
        let pool = kind.pool(OBJECTS, 16);
        let pool: &dyn Pool = &*pool;
        thread::scope(|s| {
            // Permits of one pair are used by the next one: objects change threads and CPUs.
            let (mut permits_to, mut permits_from): (Vec<_>, Vec<_>) = (0..PAIRS)
                .map(|_| {
                    let (to, from) = mpsc::channel::<()>();
                    (0..OBJECTS / PAIRS).for_each(|_| to.send(()).expect("just made"));
                    (to, Some(from))
                })
                .unzip();
            permits_to.rotate_left(1);
            for (pair, permit_to) in permits_to.into_iter().enumerate() {
                let permit_from = permits_from[pair].take().expect("one each");
                let (to, from) = mpsc::channel::<Owned>();
                s.spawn(move || {
                    for round in 0..ROUNDS {
                        permit_from.recv().expect("the pair before lives as long as this");
                        let owned = take(pool, pair as u64 + 1).unwrap_or_else(|| {
                            panic!("{kind:?}: round {round}: None, with a free object")
                        });
                        to.send(owned).expect("the other side lives");
                    }
                    // What is left of permits: nobody is told that this end is gone.
                    permit_from
                });
                s.spawn(move || {
                    for owned in from {
                        give(pool, owned);
                        // The pair after may have made all its rounds.
                        let _ = permit_to.send(());
                    }
                });
            }
        });
        assert_eq!(pool.statistics().misses, 0, "{kind:?}");
        check_full(pool);
    }
}
