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
}

impl Liveness {
    /// Preserve everything.
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
    };

    /// How many there are.
    pub(crate) const FLAGS: usize = 11;

    /// All of them, in one order.
    pub(crate) fn flags(&self) -> [bool; Self::FLAGS] {
        let Self { flags, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, red_zone } = *self;
        [flags, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, red_zone]
    }

    /// From all of them, in that order.
    pub(crate) fn of(all: [bool; Self::FLAGS]) -> Self {
        let [flags, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, red_zone] = all;
        Self { flags, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, red_zone }
    }
}
