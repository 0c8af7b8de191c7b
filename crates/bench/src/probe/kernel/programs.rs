//! The peers' BPF programs: a counter, and the pair that makes a latency histogram.
//!
//! Hand-written, and no dearer than what a compiler makes of the usual C: per-CPU arrays without
//! atomics, a start time per thread that is overwritten in place, the logarithm by halving.

use super::insn::{
    Alu, Insn, alu, alu_reg, call, exit, load, load_map, skip, skip_if_equal, skip_if_less, store,
    store_word, store_word_constant,
};

/// `bpf_map_lookup_elem(map, key)`: a pointer to the value, or 0.
const LOOKUP: i32 = 1;
/// `bpf_map_update_elem(map, key, value, flags)`.
const UPDATE: i32 = 2;
/// `bpf_ktime_get_ns()`.
const NOW: i32 = 5;
/// `bpf_get_current_pid_tgid()`: process in the upper half, thread in the lower.
const THREAD: i32 = 14;

/// Buckets of the histogram: one for each power of two of nanoseconds.
pub(super) const BUCKETS: u32 = 64;

/// `counts[0] += 1; return 0`.
pub(super) fn count(counts: i32) -> Vec<Insn> {
    let mut p =
        vec![store_word_constant(10, 0, -4), alu_reg(Alu::Mov, 2, 10), alu(Alu::Add, 2, -4)];
    p.extend(load_map(1, counts));
    p.push(call(LOOKUP));
    p.extend(add_one_and_leave());
    p
}

/// `starts[thread] = now; return 0`.
pub(super) fn remember_start(starts: i32) -> Vec<Insn> {
    let mut p =
        vec![call(THREAD), store(10, 0, -8), alu_reg(Alu::Mov, 2, 10), alu(Alu::Add, 2, -8)];
    p.extend(load_map(1, starts));
    p.push(call(LOOKUP));
    p.extend([
        alu_reg(Alu::Mov, 6, 0),
        call(NOW),
        skip_if_equal(6, 0, 3),
        store(6, 0, 0),
        alu(Alu::Mov, 0, 0),
        exit(),
        // The thread's first hit makes its element.
        store(10, 0, -16),
        alu_reg(Alu::Mov, 2, 10),
        alu(Alu::Add, 2, -8),
        alu_reg(Alu::Mov, 3, 10),
        alu(Alu::Add, 3, -16),
        alu(Alu::Mov, 4, 0),
    ]);
    p.extend(load_map(1, starts));
    p.extend([call(UPDATE), alu(Alu::Mov, 0, 0), exit()]);
    p
}

/// `histogram[log2(now - starts[thread])] += 1; return 0`.
pub(super) fn add_duration(starts: i32, histogram: i32) -> Vec<Insn> {
    let mut p =
        vec![call(THREAD), store(10, 0, -8), alu_reg(Alu::Mov, 2, 10), alu(Alu::Add, 2, -8)];
    p.extend(load_map(1, starts));
    p.extend([
        call(LOOKUP),
        skip_if_equal(0, 0, 1),
        skip(2),
        // A return without an entry: the probe was attached in between.
        alu(Alu::Mov, 0, 0),
        exit(),
        load(6, 0, 0),
        call(NOW),
        alu_reg(Alu::Sub, 0, 6),
        alu(Alu::Mov, 7, 0),
    ]);
    // r7 = log2(r0), by halving; durations of 2^32 ns and more share the last buckets.
    for bits in [16, 8, 4, 2, 1] {
        p.extend([skip_if_less(0, 1 << bits, 2), alu(Alu::Rsh, 0, bits), alu(Alu::Add, 7, bits)]);
    }
    p.extend([store_word(10, 7, -12), alu_reg(Alu::Mov, 2, 10), alu(Alu::Add, 2, -12)]);
    p.extend(load_map(1, histogram));
    p.push(call(LOOKUP));
    p.extend(add_one_and_leave());
    p
}

/// Adds one to the value that r0 points at, if it does.
fn add_one_and_leave() -> [Insn; 6] {
    [
        skip_if_equal(0, 0, 3),
        load(1, 0, 0),
        alu(Alu::Add, 1, 1),
        store(0, 1, 0),
        alu(Alu::Mov, 0, 0),
        exit(),
    ]
}
