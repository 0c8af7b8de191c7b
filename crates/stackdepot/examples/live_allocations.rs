//! Who holds memory? A four-byte handle for each live allocation, and a report by stack.
//!
//! `cargo run -p trapline-stackdepot --example live_allocations`

#[cfg(not(loom))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use stackdepot::{Depot, Flags, Handle, Refs};
    use std::collections::HashMap;

    let depot = Depot::builder().expected_stacks(1000).build_mmap()?;
    // Instead of an allocator's hooks: address -> handle. A million entries are 4 MB of handles.
    let mut live: HashMap<u64, Handle> = HashMap::new();
    let caller =
        |address: u64| 0x40_1000 + 16 * (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60);
    for address in 0..50_000u64 {
        live.insert(
            address,
            depot.save(
                &[0x7f12_0000_1000, caller(address), 0x40_0500],
                Flags::GET | Flags::CAN_GROW,
            ),
        );
        // All but one caller free what they got, a hundred allocations later.
        let old = address.saturating_sub(100);
        let leaks = caller(old) == 0x40_10f0;
        if let Some(handle) = if leaks { None } else { live.remove(&old) } {
            depot.put(handle)?;
        }
    }

    let mut report: Vec<_> = depot
        .iter()
        .filter_map(|e| if let Refs::Counted(n) = e.refs { Some((n, e.handle)) } else { None })
        .collect();
    report.sort();
    for (count, handle) in report.iter().rev().take(3) {
        println!(
            "{count} live allocations from\n{}\n",
            depot.display(*handle, |addr, f| write!(f, "at {addr:#x}"))
        );
    }
    let stats = depot.stats();
    println!(
        "{} stacks for {} allocations, {} evicted, {} places reused",
        stats.stacks(),
        live.len(),
        stats.freed,
        stats.reused
    );
    Ok(())
}

#[cfg(loom)]
fn main() {}
