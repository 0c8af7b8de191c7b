//! Why something cannot be done. Every reason is a sentence for a report.

use core::fmt;

/// Why there can be no probe at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The function has no bytes, or the site lies behind them.
    Empty,
    /// The bytes at the site are not an instruction.
    Undecodable,
    /// The site is not the first byte of an instruction.
    NotAnInstruction,
    /// The instruction at the site is a breakpoint, of the function's own or of somebody else.
    ForeignBreakpoint,
    /// The site is inside a restartable sequence: a trap there makes the program retry for ever.
    Rseq,
    /// The function is the return from a signal handler; unwinders know it by its bytes.
    SignalReturn,
    /// The site is the instruction that starts a hardware transaction; its fallback address is
    /// relative.
    Transaction,
    /// The instruction depends on its own address in a way that cannot be reproduced elsewhere.
    NotRelocatable,
    /// Relocated code at the given address would not reach what the original refers to.
    OutOfReach,
    /// Part of Go's runtime, which runs where no other code of Go does: on stacks of its own, in
    /// signal handlers, without a goroutine.
    GoRuntime,
    /// Assembly in a Go program: callers in assembly keep to no convention.
    GoAssembly,
    /// Of a version of Go whose functions are not told apart.
    GoVersion,
    /// A function of Go's that cannot take a jump; its runtime wants signals for itself.
    GoNoJump,
    /// [`NoDetour::PutAside`], in a function of Go's.
    GoPutAside,
    /// [`NoDetour::Faults`], in a function of Go's.
    GoFaults,
}

impl Refusal {
    /// All of them; a place in this list is what a decision's bytes have for one.
    pub(crate) const ALL: [Self; 15] = [
        Self::Empty,
        Self::Undecodable,
        Self::NotAnInstruction,
        Self::ForeignBreakpoint,
        Self::Rseq,
        Self::SignalReturn,
        Self::Transaction,
        Self::NotRelocatable,
        Self::OutOfReach,
        Self::GoRuntime,
        Self::GoAssembly,
        Self::GoVersion,
        Self::GoNoJump,
        Self::GoPutAside,
        Self::GoFaults,
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the function has no code",
            Self::Undecodable => "no instruction at this address",
            Self::NotAnInstruction => "not the start of an instruction",
            Self::ForeignBreakpoint => "its first instruction is a breakpoint (int3)",
            Self::Rseq => "inside a restartable sequence",
            Self::SignalReturn => "return from a signal handler",
            Self::Transaction => "starts a hardware transaction",
            Self::NotRelocatable => "the instruction cannot be relocated",
            Self::OutOfReach => "no memory within reach of the code",
            Self::GoRuntime => "part of Go's runtime",
            Self::GoAssembly => "assembly in a Go program: what it keeps in registers is not known",
            Self::GoVersion => "built by a Go that is older than 1.18",
            Self::GoNoJump => "no room for a jump, and breakpoints are not set in Go's functions",
            Self::GoPutAside => {
                "a goroutine may have been preempted among its first bytes: start the program \
                    under trapline"
            }
            Self::GoFaults => "its first bytes may fault where Go's runtime would not expect it",
        })
    }
}

impl core::error::Error for Refusal {}

/// Why a site has a breakpoint and no detour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoDetour {
    /// Less than five bytes, and no padding behind them.
    TooShort,
    /// The function branches into the bytes that the jump would displace.
    BranchIntoWindow,
    /// The caller knows of another way into those bytes
    /// ([`Options::branch_targets`](crate::Options)).
    BranchTargetInWindow,
    /// A call among the displaced instructions would return into the jump.
    CallInWindow,
    /// An unconditional jump or return is displaced together with code behind it that nobody seems
    /// to reach, so that a hidden way there is likely.
    CodeBehindJump,
    /// Some displaced instruction cannot be relocated.
    NotRelocatable,
    /// Code that the function reaches does not decode, so that its branches are not known.
    Undecodable,
    /// A restartable sequence starts in the window.
    Rseq,
    /// The displaced instructions refer to places too far from each other for one stub to reach
    /// all.
    OutOfReach,
    /// The caller asked for a breakpoint.
    Asked,
    /// A goroutine may have been preempted between the displaced instructions, and will go on
    /// there.
    PutAside,
    /// A displaced instruction of a Go function may fault behind one that moves the stack pointer:
    /// the runtime would not know where.
    Faults,
}

impl NoDetour {
    /// All of them; a place in this list is what a plan's bytes have for one.
    pub(crate) const ALL: [Self; 12] = [
        Self::TooShort,
        Self::BranchIntoWindow,
        Self::BranchTargetInWindow,
        Self::CallInWindow,
        Self::CodeBehindJump,
        Self::NotRelocatable,
        Self::Undecodable,
        Self::Rseq,
        Self::OutOfReach,
        Self::Asked,
        Self::PutAside,
        Self::Faults,
    ];
}

impl fmt::Display for NoDetour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "shorter than a jump",
            Self::BranchIntoWindow => "branch into the first bytes",
            Self::BranchTargetInWindow => "the first bytes are reached from elsewhere",
            Self::CallInWindow => "a call would return into the jump",
            Self::CodeBehindJump => "code of unknown use behind a jump",
            Self::NotRelocatable => "an instruction cannot be relocated",
            Self::Undecodable => "code that does not decode",
            Self::Rseq => "a restartable sequence starts here",
            Self::OutOfReach => "operands too far apart",
            Self::Asked => "as asked",
            Self::PutAside => "a goroutine may have been preempted among the first bytes",
            Self::Faults => "a fault behind a change of the stack pointer",
        })
    }
}

/// Why a function can have an entry probe but no return probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoReturn {
    /// The site is not the entry: the return address is not on top of the stack.
    NotEntry,
    /// It reads its own return address (`__builtin_return_address`, `setjmp`): a return probe would
    /// show there.
    ReadsReturnAddress,
    /// It writes over its own return address (thunks, retpolines).
    WritesReturnAddress,
    /// It takes its return address off the stack (`vfork`, coroutine switches, hand-written
    /// thunks).
    DropsReturnAddress,
    /// It goes to another stack before it returns.
    SwitchesStack,
    /// It is Go's: its stack moves, and is read by the runtime.
    Goroutine,
    /// A runtime in the process looks at the return addresses on its stacks, or copies stacks.
    WalkedByRuntime,
    /// The caller asked for returns to be seen otherwise, or not at all.
    Asked,
}

impl NoReturn {
    /// All of them; a place in this list is what a plan's bytes have for one.
    pub(crate) const ALL: [Self; 8] = [
        Self::NotEntry,
        Self::ReadsReturnAddress,
        Self::WritesReturnAddress,
        Self::DropsReturnAddress,
        Self::SwitchesStack,
        Self::Goroutine,
        Self::WalkedByRuntime,
        Self::Asked,
    ];
}

impl fmt::Display for NoReturn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotEntry => "not at the entry",
            Self::ReadsReturnAddress => "reads its own return address",
            Self::WritesReturnAddress => "writes its own return address",
            Self::DropsReturnAddress => "takes its return address off the stack",
            Self::SwitchesStack => "switches stacks",
            Self::Goroutine => "goroutines' stacks move",
            Self::WalkedByRuntime => "a runtime in the process walks or copies its stacks",
            Self::Asked => "as asked",
        })
    }
}

/// Why probes cannot be put at all places where a function is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoExits {
    /// [`Options::exits`](crate::Options::exits) was not set.
    NotAsked,
    /// The site is not the entry.
    NotEntry,
    /// No room for a jump at one of the instructions that leave: branches lead among those in front
    /// of it, and what is behind it is in use.
    NoRoom,
    /// It jumps to an address that it computes, in a way that is not understood.
    UnknownJumps,
    /// Some of its code lies elsewhere, and where is not known.
    Parts,
    /// There is code in it that nothing seems to lead to: a way there was not seen.
    Hidden,
    /// It goes on behind its last byte.
    FallsThrough,
    /// It is left with something else than its return address on top of the stack.
    OtherStack,
    /// Code that it reaches does not decode.
    Undecodable,
    /// An instruction that leaves, or one with which it would have to be displaced, cannot be.
    NotRelocatable,
    /// A restartable sequence is in the way.
    Rseq,
    /// What is displaced refers to places too far from each other.
    OutOfReach,
    /// A goroutine may have been preempted in front of an instruction that leaves, and will go on
    /// there.
    PutAside,
    /// What is displaced belongs to another probed function, too.
    Shared,
    /// It is large, and its ways cannot be followed to their ends.
    TooLarge,
}

impl NoExits {
    /// All of them; a place in this list is what a plan's bytes have for one.
    pub(crate) const ALL: [Self; 15] = [
        Self::NotAsked,
        Self::NotEntry,
        Self::NoRoom,
        Self::UnknownJumps,
        Self::Parts,
        Self::Hidden,
        Self::FallsThrough,
        Self::OtherStack,
        Self::Undecodable,
        Self::NotRelocatable,
        Self::Rseq,
        Self::OutOfReach,
        Self::PutAside,
        Self::Shared,
        Self::TooLarge,
    ];
}

impl fmt::Display for NoExits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "exits were not asked for",
            Self::NotEntry => "not at the entry",
            Self::NoRoom => "no room for a jump where it returns",
            Self::UnknownJumps => "jumps to computed addresses",
            Self::Parts => "parts of it lie elsewhere",
            Self::Hidden => "code in it that nothing seems to lead to",
            Self::FallsThrough => "runs into what is behind it",
            Self::OtherStack => "leaves with something else on top of its stack",
            Self::Undecodable => "code that does not decode",
            Self::NotRelocatable => "an instruction where it returns cannot be relocated",
            Self::Rseq => "a restartable sequence where it returns",
            Self::OutOfReach => "operands too far apart where it returns",
            Self::PutAside => "a goroutine may have been preempted where it returns",
            Self::Shared => "shares code where it returns with another function",
            Self::TooLarge => "too large to be followed",
        })
    }
}
