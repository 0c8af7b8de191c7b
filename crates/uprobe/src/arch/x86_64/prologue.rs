//! Writes the code before and behind the relocated instructions of a stub.
//!
//! A counting site has all it needs inline:
//!
//! ```text
//!     [rsp -= 128] [push what is live] [flags to ax]
//!     r = thread's state; none: slow
//!     r = its block
//!     inc [r + cell]
//!     [all back]
//!     body
//! slow: [all back, but rsp stays below the red zone]  push site; jump to the slow routine, which
//!       goes on at resume
//! resume: [rsp += 128; jump to the body]
//! ```
//!
//! The others push the site's number and jump to their routine.
//!
//! Where there is no stack (a function of Go's), the site's number is in r12, and nothing is
//! pushed.

use super::tail::{Counting, Tail};
use super::{entry, routines, shadow, tls};
use crate::prologue::{Flags, Prologue, Undo};
use crate::site_table::Action;
use crate::thread_state::State;
use alloc::vec::Vec;
use core::mem::offset_of;
use patch::Liveness;

const RAX: u8 = 0;
const RCX: u8 = 1;
const RDX: u8 = 2;
const R13: u8 = 13;
const RED_ZONE: u32 = 128;

/// The state of the program's registers before the next instruction.
#[derive(Clone, Copy, Debug)]
struct Now {
    sp: u32,
    /// Registers pushed, and the value of `sp` behind the push.
    saved: [Option<(u8, u32)>; 2],
    flags: Flags,
}

impl Now {
    const NOTHING: Self = Self { sp: 0, saved: [None; 2], flags: Flags::Untouched };
}

/// Appends instructions and notes how each byte is presented.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    base: usize,
    undo: &'a mut Vec<Undo>,
    now: Now,
}

impl Writer<'_> {
    fn offset(&self) -> u32 {
        (self.out.len() - self.base) as u32
    }

    fn put(&mut self, code: &[u8]) {
        let start = self.offset();
        self.out.extend_from_slice(code);
        let saved = self.now.saved.map(|s| s.map(|(number, sp)| (number, self.now.sp - sp)));
        self.undo.push(Undo {
            start,
            end: self.offset(),
            sp: self.now.sp,
            saved,
            flags: self.now.flags,
        });
    }

    fn skip_red_zone(&mut self) {
        self.put(&[0x48, 0x8d, 0x64, 0x24, 0x80]);
        self.now.sp += RED_ZONE;
    }

    fn unskip_red_zone(&mut self) {
        self.put(&[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0]);
        self.now.sp -= RED_ZONE;
    }

    fn push(&mut self, register: u8) {
        self.put(&[0x50 + register]);
        self.now.sp += 8;
        let free = usize::from(self.now.saved[0].is_some());
        self.now.saved[free] = Some((register, self.now.sp));
    }

    fn pop(&mut self, register: u8) {
        self.put(&[0x58 + register]);
        self.now.sp -= 8;
        let last = usize::from(self.now.saved[1].is_some());
        self.now.saved[last] = None;
    }

    fn flags_to_ax(&mut self) {
        // lahf: from here on ah has them all but the overflow flag, which nothing has changed yet.
        self.put(&[0x9f]);
        self.put(&[0x0f, 0x90, 0xc0]);
        self.now.flags = Flags::AllInAx;
    }

    fn flags_from_ax(&mut self) {
        self.put(&[0x04, 0x7f]);
        self.now.flags = Flags::HalfInAx;
        self.put(&[0x9e]);
        self.now.flags = Flags::Untouched;
    }

    /// For a routine: `push index`, or `mov r12d, index`.
    fn pass_number(&mut self, index: u32, no_stack: bool) {
        let [a, b, c, d] = index.to_le_bytes();
        if no_stack {
            self.put(&[0x41, 0xbc, a, b, c, d]);
        } else {
            self.put(&[0x68, a, b, c, d]);
            self.now.sp += 8;
        }
    }

    /// `jmp [rip + ?]`; where the displacement is.
    fn jump_through(&mut self) -> u32 {
        self.put(&[0xff, 0x25, 0, 0, 0, 0]);
        self.offset() - 4
    }

    /// `call [rip + ?]`, to a routine that takes nothing from the stack; where the displacement is.
    fn call_through(&mut self) -> u32 {
        self.put(&[0xff, 0x15, 0, 0, 0, 0]);
        self.offset() - 4
    }

    /// Takes rsp to where the program has it.
    fn drop_all(&mut self) {
        let [a, b, c, d] = self.now.sp.to_le_bytes();
        self.put(&[0x48, 0x8d, 0xa4, 0x24, a, b, c, d]);
        self.now = Now::NOTHING;
    }

    fn save(&mut self, c: Counting) {
        if c.skips {
            self.skip_red_zone();
        }
        c.pushed.into_iter().flatten().for_each(|r| self.push(r));
        if c.flags {
            self.flags_to_ax();
        }
    }

    /// All but rsp.
    fn restore(&mut self, c: Counting) {
        if c.flags {
            self.flags_from_ax();
        }
        c.pushed.into_iter().flatten().rev().for_each(|r| self.pop(r));
    }

    fn relative(&mut self, at: u32, to: u32) {
        let place = self.base + at as usize;
        let distance = to.wrapping_sub(at + 4);
        self.out[place..place + 4].copy_from_slice(&distance.to_le_bytes());
    }
}

/// Appends the prologue of the stub of site `index` to `out`, to run with its first byte at `at`;
/// the body is to follow immediately. `loops`: the function branches back to the site. `exits`: its
/// returns are seen at its exits; also at these themselves.
pub(crate) fn emit(
    out: &mut Vec<u8>,
    at: u64,
    index: u32,
    action: Action,
    live: &Liveness,
    loops: bool,
    exits: bool,
) -> Prologue {
    let base = out.len();
    let mut undo = Vec::new();
    let mut w = Writer { out, base, undo: &mut undo, now: Now::NOTHING };
    let mut tail = Tail { index, routine_at: None, routine: 0, slow_path: None };
    let skips = match action {
        Action::Count { cell } => {
            let counting = counting(live);
            tail.slow_path = Some((count(&mut w, cell, counting), counting));
            tail.routine = if counting.no_stack {
                routines::switching()
            } else {
                routines::slow_path(counting.skips)
            };
            counting.skips
        }
        Action::Time { .. } | Action::Leave { .. } if live.no_stack => {
            tail.routine = routines::goroutine(matches!(action, Action::Leave { .. }));
            false
        }
        Action::Time { .. } | Action::Leave { .. } if exits => {
            let careful = live.flags || live.red_zone;
            let leaves = matches!(action, Action::Leave { .. });
            tail.routine = if leaves { shadow::leave(careful) } else { shadow::enter(careful) };
            careful
        }
        Action::Time { .. } | Action::CountReturn { .. } | Action::Leave { .. } => {
            let careful = loops || live.flags || live.red_zone;
            tail.routine = entry::routine(matches!(action, Action::Time { .. }), careful);
            careful
        }
        Action::Call | Action::LeaveCall => {
            tail.routine = routines::call(live.red_zone || loops);
            live.red_zone || loops
        }
    };
    if !matches!(action, Action::Count { .. }) {
        if skips {
            w.skip_red_zone();
        }
        w.pass_number(index, live.no_stack);
        if live.no_stack {
            tail.routine_at = Some(w.jump_through());
        } else if exits && !matches!(action, Action::Call | Action::LeaveCall) {
            tail.routine_at = Some(w.call_through());
            w.drop_all();
        } else {
            tail.routine_at = Some(w.jump_through());
        }
    }
    let body = at + u64::from(w.offset());
    Prologue { at, body, resume: body, skips_red_zone: skips, undo, tail }
}

/// The registers for counting: one dead register suffices if the flags are dead, too.
fn counting(live: &Liveness) -> Counting {
    let dead = [
        (R13, live.r12_r13),
        (11, live.r11),
        (RAX, live.rax),
        (RCX, live.rcx),
        (RDX, live.rdx),
        (10, live.r10),
        (9, live.r9),
        (8, live.r8),
    ];
    let usable = dead
        .into_iter()
        .find(|&(number, live_here)| !live_here && (!live.flags || number != RAX))
        .map(|(number, _)| number);
    let mut pushed = [None; 2];
    if live.flags && live.rax {
        pushed[0] = Some(RAX);
    }
    let register = usable.unwrap_or_else(|| {
        let other = if live.flags { RCX } else { RAX };
        pushed[usize::from(pushed[0].is_some())] = Some(other);
        other
    });
    let Liveness { flags, red_zone: skips, no_stack, .. } = *live;
    Counting { register, pushed, flags, skips, no_stack }
}

/// Returns the offset of the displacement of the jump to the slow part.
fn count(w: &mut Writer<'_>, cell: u32, c: Counting) -> u32 {
    let skips_here = c.skips && c.pushed[0].is_some();
    w.save(Counting { skips: skips_here, ..c });
    let (low, high) = (c.register & 7, c.register >> 3);
    tls::stub_load(c.register, |code| w.put(code));
    w.put(&[0x0f, 0x84, 0, 0, 0, 0]);
    let jump = w.offset() - 4;
    w.put(&[0x48 | high << 2 | high, 0x8b, 0x40 | low << 3 | low, offset_of!(State, block) as u8]);
    let [c0, c1, c2, c3] = cell.to_le_bytes();
    // Registers 4 and 12 would need another form; they are not among the candidates.
    w.put(&[0x48 | high, 0xff, 0x80 | low, c0, c1, c2, c3]);
    w.restore(c);
    if skips_here {
        w.unskip_red_zone();
    }
    jump
}

/// Appends what comes behind the body: `out` has the stub from its first byte on, at `start`.
pub(crate) fn finish(prologue: &mut Prologue, start: usize, out: &mut Vec<u8>) {
    let tail = prologue.tail.clone();
    let mut w = Writer { out, base: start, undo: &mut prologue.undo, now: Now::NOTHING };
    let mut routine_at = tail.routine_at;
    if let Some((jump, c)) = tail.slow_path {
        let skipped_there = c.skips && c.pushed[0].is_some();
        let here = w.offset();
        w.relative(jump, here);
        w.now.sp = if skipped_there { RED_ZONE } else { 0 };
        for (free, register) in c.pushed.into_iter().flatten().enumerate() {
            w.now.sp += 8;
            w.now.saved[free] = Some((register, w.now.sp));
        }
        w.now.flags = if c.flags { Flags::AllInAx } else { Flags::Untouched };
        w.restore(c);
        if c.skips && !skipped_there {
            w.skip_red_zone();
        }
        w.pass_number(tail.index, c.no_stack);
        routine_at = Some(w.jump_through());
    }
    if prologue.skips_red_zone {
        w.now = Now { sp: RED_ZONE, ..Now::NOTHING };
        prologue.resume = prologue.at + u64::from(w.offset());
        w.unskip_red_zone();
        w.put(&[0xe9, 0, 0, 0, 0]);
        let jump = w.offset() - 4;
        w.relative(jump, (prologue.body - prologue.at) as u32);
    }
    if let Some(at) = routine_at {
        let here = w.offset();
        w.relative(at, here);
        w.out.extend_from_slice(&tail.routine.to_le_bytes());
    }
}
