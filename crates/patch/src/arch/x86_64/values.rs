//! What is known of the registers before an instruction, as far as it tells where jumps lead and
//! where the return address is.
//!
//! A dispatch through a jump table is one of
//!
//! ```text
//! lea T, [rip + table]; movsxd r, dword [T + i*4]; add r, T; jmp r      relative, 4 bytes
//! jmp [table + i*8], or mov r, [table + i*8]; jmp r                     absolute, 8 bytes
//! ```
//!
//! with anything between, behind `cmp i, n; ja default` if the compiler did not know better.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Not seen: whatever another way says.
    Open,
    /// Ways differ, or it was computed of what is below: perhaps an address of this code.
    Unknown,
    /// A value that does not come from this code: an argument, a result, out of memory.
    Given,
    /// So far below the return address that the function's caller pushed.
    Slot(i32),
    /// An address, or a number.
    Constant(u64),
    /// An entry of the table there, 4 bytes, not yet added to it.
    Relative(u64),
    /// What such an entry leads to.
    Entry4(u64),
    /// An entry of the table there, 8 bytes.
    Entry8(u64),
}

use Value::{Constant, Entry4, Entry8, Given, Open, Relative, Slot, Unknown};

impl Value {
    fn meet(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Open, known) | (known, Open) => known,
            _ => Unknown,
        }
    }

    /// May be made of this code's labels.
    fn is_code(self) -> bool {
        matches!(self, Unknown | Relative(_) | Entry4(_) | Entry8(_))
    }

    fn plus(self, n: i64) -> Self {
        match self {
            Slot(d) => i32::try_from(i64::from(d) - n).map_or(Unknown, Slot),
            Constant(at) => Constant(at.wrapping_add_signed(n)),
            Given | Open => self,
            _ => Unknown,
        }
    }

    fn sum(self, other: Self) -> Self {
        match (self, other) {
            (Relative(table), Constant(base)) | (Constant(base), Relative(table))
                if table == base =>
            {
                Entry4(table)
            }
            _ if self.is_code() || other.is_code() => Unknown,
            _ => Given,
        }
    }
}

/// A register is at most this, unsigned: which ones, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    registers: u16,
    most: u32,
}

/// Before an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// By the numbers of registers.
    registers: [Value; 16],
    /// What was compared last, while the flags stand.
    compared: Option<Bound>,
    bound: Option<Bound>,
    /// Flags that a comparison has set and nobody has read since.
    pub(crate) flags_given: bool,
}

const SP: usize = 4;
const BP: usize = 5;
/// rbx, rsp, rbp, r12 to r15.
pub(crate) const CALLEE_SAVED: u16 = 0xf038;

/// The number of a general register, however much of it is named.
pub(crate) fn number(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}

impl State {
    /// At the first instruction of a function.
    pub(crate) fn entry() -> Self {
        Self { registers: [Given; 16], compared: None, bound: None, flags_given: false }
            .with(SP, Slot(0))
    }

    /// Where control comes from somewhere else, with the stack as deep as that, if it is known.
    pub(crate) fn elsewhere(depth: Option<i32>) -> Self {
        let mut state = Self { registers: [Given; 16], ..Self::entry() };
        for register in [3, BP, 12, 13, 14, 15] {
            state.registers[register] = Open;
        }
        state.with(SP, depth.map_or(Open, Slot))
    }

    fn with(mut self, register: usize, value: Value) -> Self {
        self.registers[register] = value;
        self
    }

    /// What is known on both ways.
    pub(crate) fn meet(&self, other: &Self) -> Self {
        let bound = match (self.bound, other.bound) {
            (Some(a), Some(b)) if a.most == b.most && a.registers & b.registers != 0 => {
                Some(Bound { registers: a.registers & b.registers, ..a })
            }
            _ => None,
        };
        Self {
            registers: core::array::from_fn(|k| self.registers[k].meet(other.registers[k])),
            compared: self.compared.filter(|_| self.compared == other.compared),
            bound,
            flags_given: self.flags_given || other.flags_given,
        }
    }

    /// How far the stack pointer is below the return address. None: not known.
    pub(crate) fn depth(&self) -> Option<i32> {
        match self.registers[SP] {
            Slot(depth) => Some(depth),
            _ => None,
        }
    }

    pub(crate) fn register(&self, register: Register) -> Value {
        number(register).map_or(Unknown, |number| self.registers[number])
    }

    /// The most that a register holds, if a comparison told.
    pub(crate) fn most(&self, register: Register) -> Option<u32> {
        let number = number(register)?;
        self.bound.filter(|bound| bound.registers >> number & 1 != 0).map(|bound| bound.most)
    }

    /// The state where a conditional jump leads, or behind it.
    pub(crate) fn branched(mut self, i: &Instruction, taken: bool) -> Self {
        let compared = self.compared.filter(|_| i.is_jcc_short_or_near());
        self.bound = match (i.mnemonic(), taken, compared) {
            (Mnemonic::Ja, false, Some(_)) | (Mnemonic::Jbe, true, Some(_)) => compared,
            (Mnemonic::Jae, false, Some(b)) | (Mnemonic::Jb, true, Some(b)) => {
                b.most.checked_sub(1).map(|most| Bound { most, ..b })
            }
            _ => self.bound,
        };
        self.flags_given = false;
        self
    }

    /// What a load of `size` bytes from the instruction's memory operand gives.
    pub(crate) fn loaded(&self, i: &Instruction, size: usize) -> Value {
        if i.memory_index() == Register::None {
            return Given;
        }
        let Some(table) = self.table(i, size) else {
            // An entry of a table that somebody gave is somebody's; one of a table that has been
            // lost sight of may be this code's.
            let base = self.register(i.memory_base());
            return if size == 8 && base == Given { Given } else { Unknown };
        };
        if size == 8 { Entry8(table) } else { Relative(table) }
    }

    /// The table that an operand with an index of `size` bytes refers to.
    pub(crate) fn table(&self, i: &Instruction, size: usize) -> Option<u64> {
        let displacement = i.memory_displacement64();
        let (base, index) = (i.memory_base(), i.memory_index());
        let constant = |register| match self.register(register) {
            Constant(at) => Some(at.wrapping_add(displacement)),
            _ => None,
        };
        match i.memory_index_scale() as usize {
            _ if index == Register::None => None,
            scale if scale == size && base == Register::None => Some(displacement),
            scale if scale == size => constant(base),
            // The index multiplied before, as without optimisation.
            1 if base != Register::None => constant(base).or_else(|| constant(index)),
            _ => None,
        }
    }

    /// The state behind an instruction that goes on there. `read` and `written` are the general
    /// registers that it reads and writes.
    pub(crate) fn step(&mut self, i: &Instruction, read: u16, written: u16) {
        let value = self.result(i);
        self.follow_bound(i, written);
        let old = self.registers;
        let of_code = (0..16).any(|n| read >> n & 1 != 0 && old[n].is_code());
        for register in (0..16).filter(|register| written >> register & 1 != 0) {
            self.registers[register] = if of_code { Unknown } else { Given };
        }
        match i.mnemonic() {
            Mnemonic::Push | Mnemonic::Pushfq | Mnemonic::Pop | Mnemonic::Popfq => {
                let by = i64::from(i.stack_pointer_increment());
                if i.op_count() == 0 || number(i.op0_register()) != Some(SP) || by < 0 {
                    self.registers[SP] = old[SP].plus(by);
                }
            }
            Mnemonic::Leave => {
                self.registers[SP] = old[BP].plus(8);
                self.registers[BP] = Given;
            }
            Mnemonic::Cdqe => self.registers[0] = old[0].signed(),
            _ => {
                if let (Some(value), Some(to)) = (value, number(i.op0_register())) {
                    self.registers[to] = value;
                }
            }
        }
        if i.rflags_read() != 0 {
            self.flags_given = false;
        }
        if i.rflags_modified() != 0 {
            self.flags_given = gives_flags(i);
        }
    }

    /// A call came back.
    pub(crate) fn called(&mut self) {
        for (register, value) in self.registers.iter_mut().enumerate() {
            if CALLEE_SAVED >> register & 1 == 0 {
                *value = Given;
            }
        }
        (self.compared, self.bound, self.flags_given) = (None, None, false);
    }

    /// What the first operand, a register, is afterwards; where that is more than "written".
    fn result(&self, i: &Instruction) -> Option<Value> {
        if i.op_count() < 2 || i.op0_kind() != OpKind::Register {
            return None;
        }
        let to = i.op0_register();
        if !to.is_gpr64() && !to.is_gpr32() {
            // Part of a register: of a value that it adds to nothing is known.
            return to.is_gpr().then_some(match self.register(to) {
                old if old.is_code() => Unknown,
                _ => Given,
            });
        }
        let narrowed = |value: Value| if to.is_gpr64() { value } else { value.narrow() };
        let source = match i.op1_kind() {
            OpKind::Register => Some(self.register(i.op1_register())),
            OpKind::Immediate8to64
            | OpKind::Immediate32to64
            | OpKind::Immediate32
            | OpKind::Immediate8to32
            | OpKind::Immediate64 => Some(Constant(i.immediate(1))),
            _ => None,
        };
        let memory = i.op1_kind() == OpKind::Memory;
        let value = match i.mnemonic() {
            Mnemonic::Mov if memory => self.loaded(i, to.size()),
            Mnemonic::Movsxd if memory => self.loaded(i, 4),
            Mnemonic::Mov => narrowed(source?),
            Mnemonic::Movsxd => self.register(i.op1_register()).signed(),
            Mnemonic::Lea => match ip_address(i) {
                Some(at) => narrowed(Constant(at)),
                None => narrowed(self.effective(i)),
            },
            Mnemonic::Add => match source? {
                Constant(n) if i.op1_kind() != OpKind::Register => {
                    narrowed(self.register(to).plus(n.cast_signed()))
                }
                other => narrowed(self.register(to).sum(other)),
            },
            Mnemonic::Sub => match source? {
                Constant(n) if i.op1_kind() != OpKind::Register => {
                    narrowed(self.register(to).plus(n.cast_signed().wrapping_neg()))
                }
                _ => return None,
            },
            Mnemonic::Xor if i.op1_kind() == OpKind::Register && i.op1_register() == to => Given,
            // Either; and what a mask leaves of an address is none.
            _ if is_cmov(i) => {
                self.register(to).meet(if memory { self.loaded(i, to.size()) } else { source? })
            }
            Mnemonic::And if number(to) == Some(SP) => Unknown,
            _ if memory && i.memory_index() != Register::None && to.is_gpr64() => Unknown,
            _ => return None,
        };
        Some(value)
    }

    /// `lea` without rip.
    fn effective(&self, i: &Instruction) -> Value {
        let displacement = i.memory_displacement64().cast_signed();
        match (i.memory_base(), i.memory_index()) {
            (Register::None, Register::None) => Constant(i.memory_displacement64()),
            (base, Register::None) => self.register(base).plus(displacement),
            (Register::None, index) => {
                if self.register(index).is_code() {
                    Unknown
                } else {
                    Given
                }
            }
            (base, index) if displacement == 0 && i.memory_index_scale() == 1 => {
                self.register(base).sum(self.register(index))
            }
            (base, index) => {
                let code = self.register(base).is_code() || self.register(index).is_code();
                if code { Unknown } else { Given }
            }
        }
    }

    fn follow_bound(&mut self, i: &Instruction, written: u16) {
        let pair = || {
            let ok = i.op_count() == 2 && i.op0_kind() == OpKind::Register;
            (ok && i.op1_kind() == OpKind::Register)
                .then(|| Some((number(i.op0_register())?, number(i.op1_register())?)))?
        };
        if let Some(bound) = &mut self.bound {
            let copied = matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsxd)
                && pair().is_some_and(|(_, from)| bound.registers >> from & 1 != 0);
            bound.registers &= !written;
            if copied && let Some((to, _)) = pair() {
                bound.registers |= 1 << to;
            }
        }
        let immediate = || {
            let register = number(i.op0_register()).filter(|_| i.op0_kind() == OpKind::Register)?;
            // None: a register, or memory, which string instructions name in ways of their own.
            let constant = (i.op_count() == 2).then(|| i.try_immediate(1).ok())??;
            let most = u32::try_from(constant).ok()?;
            Some(Bound { registers: 1 << register, most })
        };
        if i.rflags_modified() != 0 {
            self.compared = immediate().filter(|_| i.mnemonic() == Mnemonic::Cmp);
        } else if let Some(compared) = &mut self.compared {
            // What the compared register is copied to is the same.
            let copied = matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Movzx)
                && pair().is_some_and(|(_, from)| compared.registers >> from & 1 != 0);
            compared.registers &= !written;
            if copied && let Some((to, _)) = pair() {
                compared.registers |= 1 << to;
            }
        }
        if i.mnemonic() == Mnemonic::And
            && let Some(masked) = immediate()
        {
            self.bound = Some(masked);
        }
    }
}

impl Value {
    /// Its lower half, with zeros above.
    fn narrow(self) -> Self {
        match self {
            Constant(n) if u32::try_from(n).is_ok() => self,
            Relative(_) | Open => self,
            Entry4(_) | Entry8(_) | Unknown => Unknown,
            Constant(_) | Slot(_) | Given => Given,
        }
    }

    /// Its lower half, with its sign above.
    fn signed(self) -> Self {
        self.narrow()
    }
}

fn is_cmov(i: &Instruction) -> bool {
    let code = i.code() as usize;
    (Code::Cmovo_r16_rm16 as usize..=Code::Cmovg_r64_rm64 as usize).contains(&code)
}

fn ip_address(i: &Instruction) -> Option<u64> {
    super::decode::ip_relative(i)
}

/// Instructions that are there for the flags that they set.
fn gives_flags(i: &Instruction) -> bool {
    matches!(
        i.mnemonic(),
        Mnemonic::Cmp
            | Mnemonic::Test
            | Mnemonic::Bt
            | Mnemonic::Stc
            | Mnemonic::Clc
            | Mnemonic::Cmc
            | Mnemonic::Sahf
            | Mnemonic::Popfq
            | Mnemonic::Cmpxchg
            | Mnemonic::Cmpxchg8b
            | Mnemonic::Cmpxchg16b
            | Mnemonic::Ucomiss
            | Mnemonic::Ucomisd
            | Mnemonic::Comiss
            | Mnemonic::Comisd
            | Mnemonic::Vucomiss
            | Mnemonic::Vucomisd
            | Mnemonic::Vcomiss
            | Mnemonic::Vcomisd
            | Mnemonic::Ptest
            | Mnemonic::Vptest
            | Mnemonic::Fcomi
            | Mnemonic::Fcomip
            | Mnemonic::Fucomi
            | Mnemonic::Fucomip
    )
}
