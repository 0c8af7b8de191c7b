//! What must be preserved at a site.

/// What code that runs at a site must preserve: true where the program may still use the old value.
/// Registers that are not named must always be preserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the registers' names say it
pub struct Liveness {
    /// The arithmetic flags (OF SF ZF AF PF CF). The direction flag is always live.
    pub flags: bool,
    pub rax: bool,
    pub rcx: bool,
    pub rdx: bool,
    pub rsi: bool,
    pub rdi: bool,
    pub r8: bool,
    pub r9: bool,
    pub r10: bool,
    pub r11: bool,
    /// The 128 bytes below rsp.
    pub red_zone: bool,
    /// r12 and r13, which only the calling convention of Go gives away.
    pub r12_r13: bool,
    /// A stack may end at rsp, as goroutines' do: nothing may be pushed.
    pub no_stack: bool,
}

impl Liveness {
    /// Preserve everything; there is a stack.
    pub const ALL: Self = Self {
        flags: true,
        rax: true,
        rcx: true,
        rdx: true,
        rsi: true,
        rdi: true,
        r8: true,
        r9: true,
        r10: true,
        r11: true,
        red_zone: true,
        r12_r13: true,
        no_stack: false,
    };

    /// At the entry of a compiled function of Go, by its calling convention (`ABIInternal`): r12,
    /// r13 and the flags are dead, and there is no stack to be counted on.
    pub const GO: Self =
        Self { flags: false, red_zone: false, r12_r13: false, no_stack: true, ..Self::ALL };

    /// How many there are.
    pub(crate) const FLAGS: usize = 13;

    /// All of them, in one order.
    pub(crate) fn flags(&self) -> [bool; Self::FLAGS] {
        let Self { flags, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, .. } = *self;
        let Self { red_zone, r12_r13, no_stack, .. } = *self;
        [flags, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, red_zone, r12_r13, no_stack]
    }

    /// From all of them, in that order.
    pub(crate) fn of(all: [bool; Self::FLAGS]) -> Self {
        let [flags, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, rest @ ..] = all;
        let [red_zone, r12_r13, no_stack] = rest;
        Self { flags, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, red_zone, r12_r13, no_stack }
    }
}
