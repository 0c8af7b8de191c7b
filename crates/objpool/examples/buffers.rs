//! Buffers that worker threads borrow and give back by dropping them.

use objpool::ObjectPool;
use std::thread;

fn main() -> Result<(), objpool::BuildError> {
    let pool: ObjectPool<Vec<u8>> = ObjectPool::new(8, |_| Vec::with_capacity(4096))?;
    thread::scope(|s| {
        for worker in 0..4u8 {
            let pool = &pool;
            s.spawn(move || {
                for _ in 0..100_000 {
                    // Eight buffers for four workers: there is always one.
                    let Some(mut buffer) = pool.pop() else {
                        unreachable!("never a spurious None")
                    };
                    buffer.clear();
                    buffer.extend_from_slice(&[worker; 64]);
                }
            });
        }
    });
    println!("{:#?}", pool.statistics());
    Ok(())
}
