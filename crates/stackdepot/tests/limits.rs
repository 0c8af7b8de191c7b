//! Budgets, resource limits and backing store that is not there.
#![cfg(not(loom))]

mod common;

use common::{Mapping, in_child, stack};
use stackdepot::{Depot, Error, Flags, Miss};

const GROW: Flags = Flags::CAN_GROW;

#[test]
fn settings_out_of_range_are_named() {
    for (builder, setting) in [
        (Depot::builder().buckets_log2(23), "buckets_log2"),
        (Depot::builder().buckets_log2(u32::MAX), "buckets_log2"),
        (Depot::builder().max_depth(0), "max_depth"),
        (Depot::builder().max_depth(256), "max_depth"),
        (Depot::builder().pool_bytes(usize::MAX), "pool_bytes"),
    ] {
        assert!(
            matches!(builder.build_mmap(), Err(Error::BadSetting(s)) if s == setting),
            "{setting}"
        );
    }
    for budget in [0, 8, 100_000] {
        let built = Depot::builder().buckets_log2(12).budget_bytes(budget).build_mmap();
        assert!(
            matches!(built, Err(Error::TooSmall(needed)) if needed > 64 << 12),
            "a budget of {budget} bytes"
        );
    }
}

#[test]
fn the_smallest_and_the_deepest_work() {
    let depot =
        Depot::builder().buckets_log2(0).max_depth(1).budget_bytes(4096).build_mmap().unwrap();
    assert!(!depot.save(&[1, 2, 3], Flags::NONE).is_none());
    let depot = Depot::builder()
        .buckets_log2(0)
        .max_depth(255)
        .budget_bytes(64 << 10)
        .build_mmap()
        .unwrap();
    let deep: Vec<u64> = (0..255).collect();
    let handle = depot.save(&deep, Flags::NONE);
    let mut buf = [0; 255];
    assert_eq!(depot.fetch(handle, &mut buf), Ok(&deep[..]));
}

#[test]
fn more_than_a_handle_can_name_is_not_used() {
    let depot = Depot::builder().budget_bytes(8 << 30).build_mmap().unwrap();
    assert_eq!(depot.stats().budget_bytes, 1 << 30);
    assert!(depot.stats().pool_bytes < 4 << 20, "address space is no memory");
}

/// The kernel says no in the middle of a save: counted, not fatal; what is there stays usable.
#[test]
fn a_kernel_that_refuses_memory_refuses_growth() {
    let depot = Depot::builder().buckets_log2(4).budget_bytes(16 << 20).build_mmap().unwrap();
    let code = in_child(|| {
        let handle = depot.save(&stack(1, 20), GROW);
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a structure that is filled in. No more private writable memory for this process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &none) }, 0);
        // SAFETY: the thread's errno.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        unsafe { *errno = 77 };
        let refused = (0..).map(|n| depot.try_save(&stack(n, 20), GROW)).find_map(Result::err);
        // SAFETY: as above.
        let after = unsafe { *errno };
        let found = depot.save(&stack(1, 20), Flags::NONE) == handle;
        let counted = depot.stats().growth_refused == 1;
        i32::from(refused != Some(Miss::GrowthRefused))
            + 2 * i32::from(!found)
            + 4 * i32::from(!counted)
            + 8 * i32::from(after != 77)
    });
    assert_eq!(code, 0);
}

#[test]
fn a_limit_on_address_space_is_an_error_at_creation() {
    let code = in_child(|| {
        let little = libc::rlimit { rlim_cur: 64 << 20, rlim_max: 64 << 20 };
        // SAFETY: a structure that is filled in.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &little) }, 0);
        match Depot::builder().budget_bytes(1 << 30).build_mmap() {
            Err(Error::Memory(libc::ENOMEM)) => 0,
            _ => 1,
        }
    });
    assert_eq!(code, 0);
}

/// A shared mapping longer than its file (or a tmpfs that is full): growth is refused where
/// touching the memory would be SIGBUS.
#[test]
fn backing_store_that_runs_out_refuses_growth() {
    let memory = Mapping::of_file(8 << 20, 1 << 20);
    let depot = Depot::builder().buckets_log2(4).build_in(memory.as_shared()).unwrap();
    let mut saved = Vec::new();
    let miss = loop {
        match depot.try_save(&stack(saved.len() as u64, 20), GROW) {
            Ok(handle) => saved.push(handle),
            Err(miss) => break miss,
        }
    };
    assert_eq!(miss, Miss::GrowthRefused);
    assert!(saved.len() > 5000);
    let mut buf = [0; 64];
    for (n, handle) in saved.iter().enumerate() {
        assert_eq!(depot.fetch(*handle, &mut buf), Ok(&stack(n as u64, 20)[..]));
    }
    let memory = Mapping::of_file(8 << 20, 4096);
    let none = Depot::builder().buckets_log2(12).build_in(memory.as_shared());
    assert!(matches!(none, Err(Error::Memory(_))), "not even the table is backed");
    assert_eq!(
        memory.word(0).load(std::sync::atomic::Ordering::Relaxed),
        0,
        "the region is as it was"
    );
}
