//! Which of a function's code runs, and where it leaves: a walk from the entry along all ways,
//! through jump tables and into parts that lie elsewhere.
//!
//! A jump out of the function leads to a part of it if something of the function's is on the stack
//! there, or if the place is known to be a part, or jumps back into the function; else it leaves.
//! Code that no way leads to is a sign that one was not seen: then there are no exits.

use super::branches::{Branch, Sweep};
use super::decode::{Text, direct_target, ends_flow, ip_relative, is_padding, seek};
use super::tables::{self, Entries, Place, Table};
use super::usage::{Usage, Used};
use super::values::{State, Value};
use crate::{Convention, Function, Leave, Liveness, NoExits, Options};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use iced_x86::{
    Code, Decoder, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register,
};

/// The most parts of a function, and exits.
const PARTS: usize = 32;
const EXITS: usize = 2048;
/// The most instructions that are come by, each as often as something new is known of it.
const STEPS: usize = 1 << 22;
/// The most bytes of what may be a part that are searched for a jump back.
const SEARCHED: usize = 2048;

/// A function's code that runs, by parts: the function itself, and what else it jumps to and
/// belongs to it.
pub(crate) struct Reach<'a> {
    pub(crate) parts: Vec<Part<'a>>,
    /// Ascending by address.
    pub(crate) leaves: Vec<Left>,
    /// Where control comes by other ways than from the instruction in front, ascending.
    pub(crate) targets: Vec<u64>,
}

/// Code that lies together.
pub(crate) struct Part<'a> {
    pub(crate) text: Text<'a>,
    /// Lengths of the instructions that run, by offset; 0 where none begins.
    pub(crate) lengths: Vec<u8>,
    /// Where the state before each is in the walk's list.
    states: Vec<u32>,
}

/// An instruction that leaves.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    /// The part that it is in.
    pub(crate) part: usize,
    pub(crate) address: u64,
    pub(crate) leave: Leave,
    /// A conditional jump.
    pub(crate) conditional: bool,
    pub(crate) live: Liveness,
}

impl<'a> Part<'a> {
    fn new(text: Text<'a>) -> Self {
        let len = text.bytes.len();
        Self { text, lengths: vec![0; len], states: vec![0; len] }
    }

    /// The one instruction that runs and ends at the offset `end`.
    pub(crate) fn before(&self, end: usize) -> Option<usize> {
        let ends = |len: &usize| {
            let start = end.checked_sub(*len);
            start.is_some_and(|start| usize::from(self.lengths[start]) == *len)
        };
        let mut all = (1..=15).filter(ends);
        let len = all.next()?;
        all.next().is_none().then_some(end - len)
    }
}

/// Whether one of the addresses, which ascend, is in a range.
pub(crate) fn targeted(targets: &[u64], range: &Range<u64>) -> bool {
    let first = targets.partition_point(|to| *to < range.start);
    targets.get(first).is_some_and(|to| range.contains(to))
}

/// What of `f` runs, and where it leaves. `swept` and `branches` are what all of its bytes look
/// like.
pub(crate) fn reach<'a>(
    f: &Function<'a>,
    swept: &Sweep,
    branches: &[Branch],
    options: &Options<'a>,
) -> Result<Reach<'a>, NoExits> {
    let mut walk = Walk {
        function: *f,
        options: *options,
        swept,
        parts: vec![Part::new(Text { address: f.address, bytes: f.code })],
        states: vec![State::entry()],
        work: vec![(0, 0, State::entry())],
        labels: Vec::new(),
        targets: branches.iter().map(|branch| branch.to).collect(),
        leaving: Vec::new(),
        tables: Vec::new(),
        depth: Depth::None,
        usage: Usage::default(),
        steps: 0,
        factory: InstructionInfoFactory::new(),
    };
    walk.add_branch_targets(0);
    walk.run()?;
    walk.all_reached()?;
    let leaves = walk.leaves()?;
    let Walk { parts, mut targets, .. } = walk;
    targets.sort_unstable();
    targets.dedup();
    Ok(Reach { parts, leaves, targets })
}

/// How deep the stack is at calls.
#[derive(Clone, Copy)]
enum Depth {
    None,
    All(i32),
    Various,
}

/// A jump table as loads out of it tell.
struct Known {
    table: Table,
    entries: Option<Entries>,
}

/// Where an indirect jump leads.
enum Jump {
    /// To labels of this table, the nth.
    Own(usize),
    Label(u64),
    Tail,
}

struct Walk<'a, 's> {
    function: Function<'a>,
    options: Options<'a>,
    swept: &'s Sweep,
    parts: Vec<Part<'a>>,
    /// States before instructions. The first is none of them.
    states: Vec<State>,
    /// (part, offset, state before it)
    work: Vec<(usize, usize, State)>,
    /// Where control comes from elsewhere: landing pads, labels whose address is taken.
    labels: Vec<u64>,
    targets: Vec<u64>,
    /// (part, offset) of instructions that may leave.
    leaving: Vec<(usize, usize)>,
    tables: Vec<Known>,
    depth: Depth,
    usage: Usage,
    steps: usize,
    factory: InstructionInfoFactory,
}

impl<'a> Walk<'a, '_> {
    /// Where something else leads into a part: given by the caller.
    fn add_branch_targets(&mut self, part: usize) {
        let text = self.parts[part].text;
        let all = self.options.branch_targets;
        let first = all.partition_point(|to| *to <= text.address);
        let inside = all[first..].iter().take_while(|to| text.offset(**to).is_some());
        for &to in inside {
            self.targets.push(to);
            self.labels.push(to);
        }
    }

    fn run(&mut self) -> Result<(), NoExits> {
        loop {
            while let Some((part, offset, state)) = self.work.pop() {
                self.follow(part, offset, state)?;
            }
            let Some(label) = self.labels.pop() else { return Ok(()) };
            let depth = match self.depth {
                Depth::All(depth) => Some(depth),
                Depth::None | Depth::Various => None,
            };
            let table = self.tables.iter().any(|known| known.table.address == label);
            if let Some((part, offset)) = self.find(label)
                && !table
                && (part != 0 || self.swept.starts[offset])
            {
                self.work.push((part, offset, State::elsewhere(depth)));
            }
        }
    }

    fn find(&self, address: u64) -> Option<(usize, usize)> {
        let mut parts = self.parts.iter().enumerate();
        parts.find_map(|(k, part)| Some((k, part.text.offset(address)?)))
    }

    /// Walks from an instruction until ways end or were known.
    fn follow(&mut self, part: usize, from: usize, mut state: State) -> Result<(), NoExits> {
        let text = self.parts[part].text;
        let mut decoder = text.decoder();
        let mut i = Instruction::default();
        let mut offset = from;
        // What is in front may not come back.
        let mut after_call = false;
        while offset < text.bytes.len() {
            let known = self.parts[part].states[offset] as usize;
            if known != 0 {
                let met = self.states[known].meet(&state);
                if met == self.states[known] {
                    return Ok(());
                }
                self.states[known] = met;
                state = met;
            }
            self.steps += 1;
            if self.steps > STEPS {
                return Err(NoExits::TooLarge);
            }
            if !decode(&mut decoder, text, offset, &mut i) {
                return if after_call { Ok(()) } else { Err(NoExits::Undecodable) };
            }
            if known == 0 {
                self.parts[part].states[offset] = self.states.len() as u32;
                self.states.push(state);
                self.parts[part].lengths[offset] = i.len() as u8;
            }
            let used = Used::of(&i, &mut self.factory);
            if known == 0 {
                self.usage.see(&i, used);
                if i.code() == Code::Endbr64 {
                    // Somebody may jump there.
                    self.targets.push(i.ip());
                }
                if let Some(label) = ip_relative(&i).filter(|_| i.mnemonic() == Mnemonic::Lea)
                    && label != self.function.address
                    && self.find(label).is_some()
                {
                    self.targets.push(label);
                    self.labels.push(label);
                }
            }
            if !self.leads_on(part, offset, &i, &mut state, known == 0)? {
                return Ok(());
            }
            if !matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
                self.note_table(&i, &state);
                state.step(&i, used.read, used.written);
            }
            let waits = i.is_call_near() || i.is_call_near_indirect() || is_trap(&i);
            after_call = waits || after_call && i.mnemonic() == Mnemonic::Nop;
            offset += i.len();
        }
        if after_call { Ok(()) } else { Err(NoExits::FallsThrough) }
    }

    /// Follows the branches of an instruction. Returns whether control goes on behind it, with the
    /// state there but for what the instruction writes.
    fn leads_on(
        &mut self,
        part: usize,
        offset: usize,
        i: &Instruction,
        state: &mut State,
        first: bool,
    ) -> Result<bool, NoExits> {
        match i.flow_control() {
            FlowControl::Return => {
                if first {
                    self.leaving.push((part, offset));
                }
                Ok(false)
            }
            FlowControl::Exception => Ok(false),
            FlowControl::Call | FlowControl::IndirectCall => {
                if i.is_call_near() || i.is_call_near_indirect() {
                    self.call(i, state)?;
                }
                Ok(true)
            }
            FlowControl::IndirectBranch => {
                if first {
                    self.leaving.push((part, offset));
                }
                match self.indirect(i, state)? {
                    Jump::Tail => {}
                    Jump::Label(label) => self.go(label, *state),
                    Jump::Own(table) => self.go_to_entries(table, *state),
                }
                Ok(false)
            }
            _ if i.mnemonic() == Mnemonic::Hlt => Ok(false),
            _ => {
                let Some(to) = direct_target(i) else { return Ok(true) };
                let conditional = !ends_flow(i);
                if self.is_own(to, state.depth())? {
                    let mut there = *state;
                    if conditional {
                        there = state.branched(i, true);
                    }
                    self.targets.push(to);
                    self.go(to, there);
                } else if first {
                    self.leaving.push((part, offset));
                }
                if conditional {
                    *state = state.branched(i, false);
                }
                Ok(conditional)
            }
        }
    }

    fn go(&mut self, to: u64, state: State) {
        if let Some((part, offset)) = self.find(to) {
            self.work.push((part, offset, state));
        }
    }

    fn call(&mut self, i: &Instruction, state: &mut State) -> Result<(), NoExits> {
        if i.is_call_near() {
            let to = i.near_branch_target();
            // A subroutine of its own, which returns to the function itself.
            if to != self.function.address && self.find(to).is_some() {
                return Err(NoExits::OtherStack);
            }
        }
        self.depth = match (self.depth, state.depth()) {
            (Depth::None, Some(depth)) => Depth::All(depth),
            (Depth::All(known), Some(depth)) if known == depth => self.depth,
            _ => Depth::Various,
        };
        state.called();
        Ok(())
    }

    /// Whether a direct jump leads to code of the function's own; what is new of it becomes a part.
    fn is_own(&mut self, to: u64, depth: Option<i32>) -> Result<bool, NoExits> {
        if self.find(to).is_some() {
            return Ok(true);
        }
        let inside = depth.is_some_and(|depth| depth != 0);
        let piece = self.options.surroundings.and_then(|around| around.piece(to));
        let Some(piece) = piece else {
            return if inside { Err(NoExits::Parts) } else { Ok(false) };
        };
        let text = Text { address: piece.address, bytes: piece.code };
        if !(inside || piece.part || self.comes_back(text)) {
            return Ok(false);
        }
        if text.offset(to).is_none() {
            return Err(NoExits::Parts);
        }
        if self.parts.len() == PARTS {
            return Err(NoExits::TooLarge);
        }
        self.parts.push(Part::new(text));
        self.add_branch_targets(self.parts.len() - 1);
        Ok(true)
    }

    /// Whether code jumps into the middle of the function.
    fn comes_back(&self, text: Text<'_>) -> bool {
        let own = self.parts[0].text;
        let searched = Text { bytes: &text.bytes[..text.bytes.len().min(SEARCHED)], ..text };
        let mut decoder = searched.decoder();
        decoder.iter().any(|i| {
            let to = direct_target(&i).filter(|_| !i.is_call_near());
            to.and_then(|to| own.offset(to)).is_some_and(|offset| offset != 0)
        })
    }

    /// Remembers a load from a table, and what the index is at most.
    fn note_table(&mut self, i: &Instruction, state: &State) {
        let memory = i.op_count() == 2 && i.op1_kind() == OpKind::Memory;
        if !memory || !matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Movsxd) {
            return;
        }
        let size = if i.mnemonic() == Mnemonic::Movsxd { 4 } else { i.op0_register().size() };
        if matches!(size, 4 | 8)
            && let Some(address) = state.table(i, size)
        {
            self.know(Table { address, size: size as u64, most: state.most(i.memory_index()) });
        }
    }

    /// The place of a table in the list. Where loads say different lengths, none is known.
    fn know(&mut self, table: Table) -> usize {
        let same = |k: &Known| k.table.address == table.address && k.table.size == table.size;
        if let Some(at) = self.tables.iter().position(same) {
            let known = &mut self.tables[at];
            if known.table.most != table.most && known.table.most.is_some() {
                known.table.most = None;
                known.entries = None;
            }
            return at;
        }
        self.tables.push(Known { table, entries: None });
        self.tables.len() - 1
    }

    fn indirect(&mut self, i: &Instruction, state: &State) -> Result<Jump, NoExits> {
        let value = match i.op0_kind() {
            OpKind::Register => state.register(i.op0_register()),
            _ if ip_relative(i).is_some() || i.segment_prefix() != Register::None => Value::Given,
            _ => {
                if let Some(address) = state.table(i, 8) {
                    self.know(Table { address, size: 8, most: state.most(i.memory_index()) });
                }
                state.loaded(i, 8)
            }
        };
        let leaves = state.depth() == Some(0);
        let (address, size) = match value {
            Value::Entry4(table) => (table, 4),
            Value::Entry8(table) => (table, 8),
            Value::Constant(to) if self.find(to).is_some() => return Ok(Jump::Label(to)),
            Value::Constant(_) | Value::Given if leaves => return Ok(Jump::Tail),
            _ => return Err(NoExits::UnknownJumps),
        };
        let same = |k: &Known| k.table.address == address && k.table.size == size;
        let at = self.tables.iter().position(same).ok_or(NoExits::UnknownJumps)?;
        if self.tables[at].entries.is_none() {
            self.tables[at].entries = Some(self.read(self.tables[at].table));
        }
        match &self.tables[at].entries {
            Some(Entries::Own(_)) => Ok(Jump::Own(at)),
            Some(Entries::Foreign) if leaves && size == 8 => Ok(Jump::Tail),
            _ => Err(NoExits::UnknownJumps),
        }
    }

    fn read(&self, table: Table) -> Entries {
        let Some(around) = self.options.surroundings else { return Entries::Unknown };
        let end_of_code = self.function.address.wrapping_add(self.function.code.len() as u64);
        let others = self.tables.iter().map(|known| known.table.address);
        let end = others.filter(|at| *at > table.address).min().unwrap_or(u64::MAX);
        let own = |to: u64| match self.find(to) {
            Some((part, offset)) if part != 0 || self.swept.starts[offset] => Place::Label,
            Some(_) => Place::Within,
            // Where the compiler knows that nothing leads.
            None if to == end_of_code && table.most.is_some() => Place::Label,
            None if around.piece(to).is_some_and(|piece| piece.part) => Place::Label,
            None => Place::Elsewhere,
        };
        tables::read(table, end, around, &own)
    }

    fn go_to_entries(&mut self, table: usize, state: State) {
        let Some(Entries::Own(labels)) = &self.tables[table].entries else { return };
        for to in labels.clone() {
            self.targets.push(to);
            // The end of the function is none of its own.
            if let Ok(true) = self.is_own(to, None) {
                self.go(to, state);
            }
        }
    }

    /// Checks that all instructions of the function have been come by.
    fn all_reached(&self) -> Result<(), NoExits> {
        let part = &self.parts[0];
        let mut decoder = part.text.decoder();
        let mut i = Instruction::default();
        let mut offset = 0;
        while offset < part.text.bytes.len() {
            let len = usize::from(part.lengths[offset]);
            if len != 0 {
                offset += len;
                continue;
            }
            if let Some(len) = self.table_at(part.text.address.wrapping_add(offset as u64)) {
                offset += len;
                continue;
            }
            if !decode(&mut decoder, part.text, offset, &mut i) || !fills(&i) {
                return Err(NoExits::Hidden);
            }
            offset += i.len();
        }
        Ok(())
    }

    /// Bytes of a table that lies in the code.
    fn table_at(&self, address: u64) -> Option<usize> {
        self.tables.iter().find_map(|known| match &known.entries {
            Some(Entries::Own(labels)) => {
                let len = labels.len() as u64 * known.table.size;
                let at = address.wrapping_sub(known.table.address);
                (at < len).then(|| (len - at) as usize)
            }
            _ => None,
        })
    }

    /// The instructions that leave, by what is known of the registers in the end.
    fn leaves(&mut self) -> Result<Vec<Left>, NoExits> {
        let mut leaves = Vec::new();
        for (part, offset) in core::mem::take(&mut self.leaving) {
            let text = self.parts[part].text;
            let state = self.states[self.parts[part].states[offset] as usize];
            let Some(d) = text.at(offset) else { continue };
            let i = d.instruction;
            let leave = match i.flow_control() {
                FlowControl::Return if !matches!(i.code(), Code::Retnq | Code::Retnq_imm16) => {
                    return Err(NoExits::NotRelocatable);
                }
                FlowControl::Return => Leave::Return,
                FlowControl::IndirectBranch => match self.indirect(&i, &state)? {
                    Jump::Tail => Leave::Tail(None),
                    Jump::Own(_) | Jump::Label(_) => continue,
                },
                _ => match direct_target(&i) {
                    // It has become known as a part.
                    Some(to) if self.find(to).is_some() => continue,
                    to => Leave::Tail(to),
                },
            };
            if state.depth().is_some_and(|depth| depth != 0) {
                return Err(NoExits::OtherStack);
            }
            let conditional = !ends_flow(&i);
            if conditional && !i.is_jcc_short_or_near() {
                return Err(NoExits::NotRelocatable);
            }
            // What a hook may use there.
            let uses = Used::of(&i, &mut self.factory).read & (1 << 12 | 1 << 13) != 0;
            if self.options.convention == Convention::Go && (uses || conditional) {
                return Err(NoExits::NotRelocatable);
            }
            let live = self.live(&i, &state, leave);
            leaves.push(Left { part, address: i.ip(), leave, conditional, live });
        }
        if leaves.len() > EXITS {
            return Err(NoExits::TooLarge);
        }
        leaves.sort_unstable_by_key(|left| left.address);
        Ok(leaves)
    }

    /// What a hook in front of an instruction that leaves must preserve.
    fn live(&mut self, i: &Instruction, state: &State, leave: Leave) -> Liveness {
        if self.options.convention == Convention::Go {
            return Liveness::GO;
        }
        let mut dead = self.usage.overwritten();
        // Results; or arguments, the number of vectors, and the context of nested functions.
        dead &= match leave {
            Leave::Return => !0b101,
            Leave::Tail(_) => 1 << 11,
        };
        dead &= !Used::of(i, &mut self.factory).read;
        let given = state.flags_given && i.rflags_read() == 0;
        let live = |register: u16| dead >> register & 1 == 0;
        Liveness {
            flags: given || !self.usage.flags_overwritten(),
            rcx: live(1),
            rsi: live(6),
            rdi: live(7),
            r8: live(8),
            r9: live(9),
            r10: live(10),
            r11: live(11),
            red_zone: false,
            ..Liveness::ALL
        }
    }
}

fn decode(decoder: &mut Decoder<'_>, text: Text<'_>, offset: usize, i: &mut Instruction) -> bool {
    if seek(decoder, text.address, offset).is_none() || !decoder.can_decode() {
        return false;
    }
    decoder.decode_out(i);
    !i.is_invalid()
}

/// Behind it nothing may run.
fn is_trap(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Int3 | Mnemonic::Int1 | Mnemonic::Int | Mnemonic::Syscall)
}

/// What compilers put where nothing runs.
fn fills(i: &Instruction) -> bool {
    is_padding(i) || matches!(i.mnemonic(), Mnemonic::Ud2 | Mnemonic::Hlt | Mnemonic::Endbr64)
}
