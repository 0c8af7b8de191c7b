//! What a stub's prologue leaves to be written behind the body.

/// What is left to write behind the body.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) index: u32,
    /// Where the routine's address is needed: offset of a 32-bit displacement relative to its own
    /// end.
    pub(crate) routine_at: Option<u32>,
    /// The routine.
    pub(crate) routine: u64,
    /// Offset of the displacement of the jump to the slow part, and the state there.
    pub(crate) slow_path: Option<(u32, Counting)>,
}

/// What a counting prologue saves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counting {
    /// The register for the block's address.
    pub(crate) register: u8,
    /// Registers that are pushed, in this order.
    pub(crate) pushed: [Option<u8>; 2],
    pub(crate) flags: bool,
    pub(crate) skips: bool,
    /// Nothing may be pushed on the way to the routine either.
    pub(crate) no_stack: bool,
}
