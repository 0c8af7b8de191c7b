//! What the assembly of the hit path does with the time of a call, wherever its registers are: text
//! with the operands `c_max`, `c_buckets` and `last_bucket`.

use wire::cell;

const _: () = assert!(cell::SUB_BITS == 3, "the bucket is (t >> e - 3) + 8 * (e - 3)");

/// Counts `$ticks` in the histogram of the cell at `$cell`. Changes rax, rcx and the flags: neither
/// of the two may be one of those.
///
/// The bucket is (ticks >> (e - 3)) + 8 * (e - 3), with e = max(log2, 3), at most the last one.
macro_rules! count_in_bucket {
    ($ticks:literal, $cell:literal) => {
        concat!(
            "mov rcx, ",
            $ticks,
            "\n",
            "or rcx, 8\n",
            "bsr rcx, rcx\n",
            "sub ecx, 3\n",
            "mov rax, ",
            $ticks,
            "\n",
            "shr rax, cl\n",
            "lea rax, [rax + rcx*8]\n",
            "mov ecx, {last_bucket}\n",
            "cmp rax, rcx\n",
            "cmova rax, rcx\n",
            "inc qword ptr [",
            $cell,
            " + rax*8 + {c_buckets}]",
        )
    };
}

/// Raises the maximum of the cell at `$cell` to `$ticks`, which is above it, unless a handler does
/// meanwhile; then on to `$on`. Changes rax and the flags.
macro_rules! raise_maximum {
    ($ticks:literal, $cell:literal, $on:literal) => {
        concat!(
            "mov rax, qword ptr [",
            $cell,
            " + {c_max}]\n",
            "77:\n",
            "cmp ",
            $ticks,
            ", rax\n",
            "jbe ",
            $on,
            "\n",
            "cmpxchg qword ptr [",
            $cell,
            " + {c_max}], ",
            $ticks,
            "\n",
            "jnz 77b\n",
            "jmp ",
            $on,
        )
    };
}

pub(crate) use {count_in_bucket, raise_maximum};
