//! Machines. Where a value was measured or posted, its line says so; the others are the usual ones
//! for such a machine.

use crate::machine::{Costs, Machine, Scheduling};

const NANOSECOND: u64 = 1_000;
const MICROSECOND: u64 = 1_000 * NANOSECOND;
const MILLISECOND: u64 = 1_000 * MICROSECOND;

/// Linux: a slice of 3 ms; nobody moves a thread while every CPU is busy.
const LINUX: Scheduling =
    Scheduling { time_slice: 3 * MILLISECOND, migration_mean: 0, start_spread: MICROSECOND };

impl Machine {
    /// The machine on which this workspace is developed: two virtual CPUs of an EPYC, which the
    /// host puts into one cluster or apart. Here they are apart. Uncontended atomics and membarrier
    /// as in the workspace's committed tables; transfers so that two CPUs that pass a ball need the
    /// 31 ns (near) and 165 ns (far) for each pass that were measured, which is a read and the
    /// write that takes the copy away; the request's part so that two CPUs that clone and drop one
    /// `Arc` need the measured 18.6 ns each.
    pub const EPYC_2: Machine = Machine {
        name: "2 CPUs of an EPYC, apart",
        cpus: 2,
        cluster: 1,
        socket: 2,
        costs: Costs {
            hit: 300,
            locked: 2 * NANOSECOND,
            store_seq_cst: 2 * NANOSECOND,
            memory: 90 * NANOSECOND,
            near: 19 * NANOSECOND,
            far: 100 * NANOSECOND,
            socket: 100 * NANOSECOND,
            invalidate: 2 * NANOSECOND,
            read_occupancy: 20 * NANOSECOND,
            request_percent: 64,
            hold: 4 * NANOSECOND,
            patience: 200 * NANOSECOND,
            jitter_percent: 10,
            fence: 4 * NANOSECOND,
            fence_weak: 100,
            pause: 10 * NANOSECOND,
            system_call: 150 * NANOSECOND,
            interrupt: 8 * MICROSECOND,
            context_switch: 1_500 * NANOSECOND,
        },
        scheduling: LINUX,
    };

    /// Two virtual CPUs of a Xeon (Sapphire Rapids), as `trapline-bench scale --here` measured
    /// them while others used them, too: best of three runs. Transfers so that a pass of a ball
    /// needs the 77 ns that were measured. Memory and interrupts could not be told from the noise
    /// and are the usual ones.
    pub const XEON_2: Machine = Machine {
        name: "2 CPUs of a Xeon",
        cpus: 2,
        cluster: 2,
        socket: 2,
        costs: Costs {
            hit: 200,
            locked: 8 * NANOSECOND,
            store_seq_cst: 9 * NANOSECOND,
            memory: 110 * NANOSECOND,
            near: 47 * NANOSECOND,
            far: 47 * NANOSECOND,
            socket: 47 * NANOSECOND,
            fence: 10 * NANOSECOND,
            pause: 16 * NANOSECOND,
            system_call: 125 * NANOSECOND,
            interrupt: 2 * MICROSECOND,
            context_switch: 1_050 * NANOSECOND,
            ..Self::EPYC_2.costs
        },
        scheduling: LINUX,
    };

    /// One socket of an EPYC: clusters of eight CPUs behind a shared last-level cache.
    pub const EPYC_64: Machine = Machine {
        name: "64-core EPYC",
        cpus: 64,
        cluster: 8,
        socket: 64,
        costs: Costs {
            socket: 200 * NANOSECOND,
            // Longer than any transfer, as on the others.
            patience: 300 * NANOSECOND,
            interrupt: 800 * NANOSECOND,
            ..Self::EPYC_2.costs
        },
        scheduling: LINUX,
    };

    /// A Xeon whose twenty CPUs are on one ring. Transfer, hold and patience so that the posted
    /// table of a reference-counted free list comes out (`trapline-bench scale`): a line goes from
    /// CPU to CPU within some 20 ns there. Its CPUs are ten cores of two threads each, which is not
    /// modelled: what shares nothing gains by the second ten CPUs here, and hardly does there.
    pub const XEON_20: Machine = Machine {
        name: "20-core Xeon, one ring",
        cpus: 20,
        cluster: 20,
        socket: 20,
        costs: Costs {
            hit: 400,
            locked: 6 * NANOSECOND,
            store_seq_cst: 6 * NANOSECOND,
            memory: 85 * NANOSECOND,
            near: 22 * NANOSECOND,
            far: 22 * NANOSECOND,
            socket: 22 * NANOSECOND,
            invalidate: NANOSECOND,
            read_occupancy: 5 * NANOSECOND,
            request_percent: 60,
            hold: 5 * NANOSECOND,
            patience: 80 * NANOSECOND,
            jitter_percent: 20,
            fence: 10 * NANOSECOND,
            fence_weak: 100,
            pause: 40 * NANOSECOND,
            system_call: 200 * NANOSECOND,
            interrupt: MICROSECOND,
            context_switch: 1_500 * NANOSECOND,
        },
        scheduling: LINUX,
    };

    /// Two sockets of 24 cores each on a mesh (Xeon 8260), without their second threads. Nothing of
    /// it was fitted to a table: what a core alone pays, hold and the request's part are those of
    /// [`XEON_20`](Self::XEON_20); transfers so that a pass of a ball needs 47 ns within a socket
    /// and 132 between the two, which is what others publish of this family; patience longer than
    /// any transfer. So its tables in `trapline-bench scale` validate the model, and show where it
    /// is wrong.
    pub const XEON_48: Machine = Machine {
        name: "2 Xeons of 24 cores",
        cpus: 48,
        cluster: 24,
        socket: 24,
        costs: Costs {
            near: 29 * NANOSECOND,
            far: 29 * NANOSECOND,
            socket: 81 * NANOSECOND,
            patience: 120 * NANOSECOND,
            ..Self::XEON_20.costs
        },
        scheduling: LINUX,
    };

    /// Two sockets of ARM64, each of two clusters of 24 CPUs. Hold and patience so that the posted
    /// table of a reference-counted free list comes out (`trapline-bench scale`).
    pub const ARM64_96: Machine = Machine {
        name: "96-core ARM64, four clusters",
        cpus: 96,
        cluster: 24,
        socket: 48,
        costs: Costs {
            hit: NANOSECOND,
            locked: 5 * NANOSECOND,
            store_seq_cst: 2 * NANOSECOND,
            memory: 100 * NANOSECOND,
            near: 45 * NANOSECOND,
            far: 90 * NANOSECOND,
            socket: 180 * NANOSECOND,
            invalidate: NANOSECOND,
            read_occupancy: 5 * NANOSECOND,
            request_percent: 60,
            hold: 15 * NANOSECOND,
            patience: 200 * NANOSECOND,
            jitter_percent: 20,
            fence: 8 * NANOSECOND,
            fence_weak: 4 * NANOSECOND,
            pause: 10 * NANOSECOND,
            system_call: 300 * NANOSECOND,
            interrupt: MICROSECOND,
            context_switch: 2 * MICROSECOND,
        },
        scheduling: LINUX,
    };
}
