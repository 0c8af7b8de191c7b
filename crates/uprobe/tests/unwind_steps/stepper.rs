//! Steps a child through its hits, unwinds at each instruction, and compares.

use crate::child::{FRAMES, Frame, Walk};
use crate::ptrace::{Child, Registers, Stop};
use crate::symbols::Symbol;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ptr::NonNull;

/// How often an instruction is unwound from in one case.
const OFTEN: u32 = 2;
/// A stack that is deeper than that is not compared beyond.
const DEEP: usize = 8;

/// What is stepped through.
pub(crate) struct Places {
    /// Probed functions.
    pub(crate) sites: Vec<Symbol>,
    /// All functions that the sites' tests are made of.
    pub(crate) targets: Vec<Symbol>,
    /// The engine's assembly.
    pub(crate) routines: Vec<Symbol>,
    pub(crate) instructions: BTreeMap<u64, Instruction>,
    /// Return instances' stubs.
    pub(crate) area: Symbol,
    /// Where a function that was left goes on.
    pub(crate) landing: u64,
}

impl Places {
    pub(crate) fn routine(&self, address: u64) -> Option<&Symbol> {
        self.routines.iter().find(|r| r.contains(address))
    }

    /// The address for people.
    pub(crate) fn name(&self, address: u64) -> String {
        let known = self.routines.iter().chain(&self.targets).chain([&self.area]);
        match known.into_iter().find(|s| s.contains(address)) {
            Some(s) => format!("{}+{:#x}", s.name, address - s.start),
            None => format!("{address:#x}"),
        }
    }
}

/// What happens beside the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Nothing,
    /// SIGUSR2, whose handler hits a probe, after so many instructions with the thread's lists
    /// held.
    Interrupt(usize),
    /// The same, after so many instructions of the routines that change shadow stacks.
    InterruptShadow(usize),
    /// The thread's state says where its stack is, which a thread of a fork child does not know.
    OwnStack,
    /// A return finds the thread's lists held, as after a handler that has switched stacks for
    /// good.
    Hold,
    /// Another thread changes the word that is about to be compared and exchanged, to one that is
    /// larger by this.
    Contend(u64),
}

/// A function that is running, by its entry: where it returns to, rsp then, and the registers that
/// it has to keep.
#[derive(Clone, Copy, Debug)]
struct Activation {
    frame: Frame,
}

/// Where each instruction of the routines went on.
pub(crate) type Seen = BTreeMap<u64, BTreeSet<u64>>;

pub(crate) struct Stepper<'p> {
    pub(crate) child: Child,
    pub(crate) places: &'p Places,
    pub(crate) walk: NonNull<Walk>,
    /// Of the targets that are called.
    pub(crate) actions: [&'static str; 2],
    pub(crate) event: Event,
    /// Whether it happened.
    pub(crate) happened: bool,
    pub(crate) seen: &'p mut Seen,
    /// What was wrong, by address.
    pub(crate) wrong: BTreeMap<u64, String>,
    running: Vec<Activation>,
    pages: BTreeSet<u64>,
    returns: BTreeSet<u64>,
    checked: HashMap<u64, u32>,
    bottom: u64,
    critical: Option<usize>,
    in_shadow: usize,
}

impl<'p> Stepper<'p> {
    pub(crate) fn new(
        child: Child,
        places: &'p Places,
        walk: NonNull<Walk>,
        seen: &'p mut Seen,
    ) -> Self {
        let mut it = Self {
            child,
            places,
            walk,
            actions: [""; 2],
            event: Event::Nothing,
            happened: false,
            seen,
            wrong: BTreeMap::new(),
            running: Vec::new(),
            pages: BTreeSet::new(),
            returns: BTreeSet::new(),
            checked: HashMap::new(),
            bottom: 0,
            critical: None,
            in_shadow: 0,
        };
        assert_eq!(it.child.run(libc::SIGUSR1), Stop::Signal(libc::SIGSTOP), "the first walk");
        it.bottom = it.frames().last().expect("the child has walked once").ip;
        it
    }

    fn frames(&self) -> Vec<Frame> {
        // SAFETY: shared with the child, which is stopped.
        let walk = unsafe { self.walk.as_ref() };
        walk.frames[..walk.length].to_vec()
    }

    /// Until the child ends.
    pub(crate) fn go(&mut self) {
        loop {
            let places = self.places;
            let sites = places.sites.iter().filter(|s| self.actions.iter().any(|a| s.is_of(a)));
            let starts = sites.chain(&places.routines).map(|s| s.start);
            for address in starts.chain([places.landing]).chain(self.returns.clone()) {
                self.child.break_at(address);
            }
            match self.child.run(0) {
                Stop::Exited(0) => return,
                Stop::Signal(libc::SIGTRAP) => self.child.unbreak(),
                Stop::Signal(n) => {
                    panic!("signal {n} at {}", self.places.name(self.child.registers().rip))
                }
                other => panic!("{other:?}"),
            }
            self.steps();
        }
    }

    fn inside(&self, ip: u64) -> bool {
        self.places.targets.iter().any(|t| t.contains(ip))
            || self.places.routine(ip).is_some()
            || self.places.area.contains(ip)
            || self.pages.contains(&(ip & !4095))
    }

    /// From one of the places on, until it leaves them.
    fn steps(&mut self) {
        let mut now = self.child.registers();
        self.leave(&now);
        loop {
            if !self.inside(now.rip) {
                let at = self.places.name(now.rip);
                assert_eq!(now.rip, self.places.landing, "stopped at {at}");
                self.child.step(0);
                return;
            }
            self.enter(&now);
            self.check(&now);
            let before = now;
            now = self.step(&before);
            self.leave(&now);
            if !self.inside(now.rip) && !self.follow(&before, &now) {
                return;
            }
            if self.places.routine(before.rip).is_some() {
                self.seen.entry(before.rip).or_default().insert(now.rip);
            }
        }
    }

    /// Outside: in a stub that was not known, where jumps lead to, or away by a call or a return.
    fn follow(&mut self, before: &Registers, now: &Registers) -> bool {
        if self.returns.contains(&before.rip) {
            // In the handler of the signal, which comes back to there.
            return false;
        }
        let bytes = [
            self.child.word(before.rip).to_le_bytes(),
            self.child.word(before.rip + 8).to_le_bytes(),
        ];
        let bytes = bytes.concat();
        let mut decoder = Decoder::with_ip(64, &bytes, before.rip, DecoderOptions::NONE);
        match decoder.decode().flow_control() {
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                self.pages.insert(now.rip & !4095);
                return true;
            }
            FlowControl::IndirectCall | FlowControl::Call => {
                self.returns.insert(self.child.word(now.rsp));
            }
            _ => {}
        }
        if self.places.routine(before.rip).is_some() {
            self.seen.entry(before.rip).or_default().insert(now.rip);
        }
        false
    }

    /// One instruction, or into the handler of the signal that is due.
    fn step(&mut self, before: &Registers) -> Registers {
        let instruction = self.places.instructions.get(&before.rip).copied();
        let due = match self.event {
            Event::Interrupt(n) => self.critical.is_some_and(|c| c >= n),
            Event::InterruptShadow(n) => self.in_shadow >= n && instruction.is_some(),
            _ => false,
        };
        let signal = if due && !self.happened { libc::SIGUSR2 } else { 0 };
        if signal != 0 {
            self.happened = true;
            self.returns.insert(before.rip);
        } else if let Some(i) = instruction {
            self.note(&i, before);
        }
        let stop = self.child.step(signal);
        assert_eq!(stop, Stop::Signal(libc::SIGTRAP), "at {}", self.places.name(before.rip));
        let now = self.child.registers();
        if signal == 0 && instruction.is_some_and(|i| i.mnemonic() == Mnemonic::Pushfq) {
            // It has pushed the flag by which we step, too.
            let flags = self.child.word(now.rsp);
            self.child.set_word(now.rsp, flags & !(1 << 8));
        }
        now
    }

    fn note(&mut self, i: &Instruction, now: &Registers) {
        let routine = self.places.routine(i.ip()).map(|r| &*r.name);
        let shadow = |name: &str| name.contains("_enter_") || name.contains("_leave_");
        self.in_shadow += usize::from(routine.is_some_and(shadow));
        let stores = i.op0_kind() == OpKind::Memory && i.mnemonic() == Mnemonic::Mov;
        if stores && i.op1_kind() == OpKind::Immediate32 && i.memory_size().size() == 4 {
            // `critical` is all that the assembly stores numbers of 32 bits to.
            self.critical = (i.immediate32() == 1).then_some(0);
        } else if let Some(steps) = &mut self.critical {
            *steps += 1;
        }
        let compares = i.op0_kind() == OpKind::Memory && i.mnemonic() == Mnemonic::Cmp;
        let at_return = self.places.routine(i.ip()).is_some_and(|r| r.name.contains("_return_"));
        if self.event == Event::Hold
            && at_return
            && compares
            && i.memory_size().size() == 4
            && !self.happened
        {
            self.happened = true;
            let place = now.rdx + i.memory_displacement64();
            let word = self.child.word(place);
            self.child.set_word(place, word | 1);
        }
        if self.event == Event::OwnStack
            && i.mnemonic() == Mnemonic::Cmp
            && i.op0_register() == Register::RSP
            && i.op1_kind() == OpKind::Memory
        {
            self.happened = true;
            let place = now.rdx + i.memory_displacement64();
            let next = self.places.instructions.get(&i.next_ip()).map(Instruction::mnemonic);
            let outermost = self.running.first().map_or(now.rsp, |a| a.frame.rsp);
            let word = if next == Some(Mnemonic::Jb) { 0 } else { outermost + 4096 };
            self.child.set_word(place, word);
        }
        if let (Event::Contend(more), Mnemonic::Cmpxchg) = (self.event, i.mnemonic())
            && !self.happened
        {
            self.happened = true;
            let base = if i.memory_base() == Register::R8 { now.r8 } else { now.rcx };
            let place = base + i.memory_displacement64();
            self.child.set_word(place, now.rax.saturating_add(more));
        }
    }

    /// A function's first byte: it begins, or is there again by a branch or a tail call.
    fn enter(&mut self, now: &Registers) {
        let vectors = |r: &&Symbol| r.name.contains("with_all_vectors");
        let function_like = self.places.routines.iter().filter(vectors);
        if !self.places.sites.iter().chain(function_like).any(|s| s.start == now.rip) {
            return;
        }
        let ip = self.child.word(now.rsp);
        let again = self.places.area.contains(ip)
            || self.running.last().is_some_and(|a| a.frame.rsp == now.rsp + 8 && a.frame.ip == ip);
        if !again {
            let kept = [now.rbx, now.rbp, now.r12, now.r13, now.r14, now.r15];
            let frame = Frame { ip, interrupted: 0, rsp: now.rsp + 8, kept };
            self.running.push(Activation { frame });
        }
    }

    /// What has returned, or was left, runs no more. (An instance is entered, too, with rsp where
    /// it is after the return.)
    fn leave(&mut self, now: &Registers) {
        self.running.retain(|a| {
            let Frame { ip, rsp, .. } = a.frame;
            now.rsp < rsp || now.rsp == rsp && now.rip != ip
        });
    }

    /// Unwinds from here.
    fn check(&mut self, now: &Registers) {
        let times = self.checked.entry(now.rip).or_default();
        *times += 1;
        if *times > OFTEN {
            return;
        }
        const USR1: u64 = 1 << (libc::SIGUSR1 - 1);
        let mask = self.child.mask();
        self.child.set_mask(mask & !USR1);
        self.child.break_at(now.rip);
        let stop = self.child.run(libc::SIGUSR1);
        let at = self.places.name(now.rip);
        assert_eq!(
            stop,
            Stop::Signal(libc::SIGTRAP),
            "the walk from {at} ({:x?})",
            self.running.last()
        );
        self.child.unbreak();
        self.child.set_mask(mask);
        assert_eq!(all(&self.child.registers()), all(now), "the walk from {at} went back");
        if let Err(why) = self.judge(now) {
            let code = self.places.instructions.get(&now.rip).map(|i| format!(" {:?}", i.code()));
            let why = format!("{at}{}: {why}", code.unwrap_or_default());
            self.wrong.entry(now.rip).or_insert(why);
        }
    }

    /// Compares what was found with what is known.
    fn judge(&self, now: &Registers) -> Result<(), String> {
        let frames = self.frames();
        let [here, others @ ..] = &*frames else { return Err("no walk".to_owned()) };
        if self.running.is_empty() {
            return Err("no function runs here".to_owned());
        }
        let in_stub = self.pages.contains(&(now.rip & !4095));
        if !in_stub && (here.ip, here.rsp) != (now.rip, now.rsp) {
            return Err(format!("the walk begins at {:#x}, rsp {:#x}", here.ip, here.rsp));
        }
        if in_stub && !self.places.targets.iter().any(|t| t.contains(here.ip)) {
            return Err(format!("a stub is shown as {}", self.places.name(here.ip)));
        }
        let mut rest = others.iter();
        for (n, activation) in self.running.iter().rev().take(DEEP).enumerate() {
            let wanted = &activation.frame;
            let is_it = |f: &&Frame| {
                let ip = f.ip + u64::from(f.interrupted != 0);
                (ip, f.rsp) == (wanted.ip, wanted.rsp)
            };
            // The next one is the caller, with nothing between but instances, which stand for it.
            let mut between =
                rest.by_ref().take_while(|f| n > 0 || self.places.area.contains(f.ip) || is_it(f));
            let Some(found) = between.find(is_it) else {
                if frames.len() == FRAMES && n > 0 {
                    return Ok(());
                }
                let first: Vec<String> = others
                    .iter()
                    .take(4)
                    .map(|f| format!("{} rsp {:#x}", self.places.name(f.ip), f.rsp))
                    .collect();
                return Err(format!(
                    "caller {n}: {:#x} rsp {:#x} wanted: {first:?}",
                    wanted.ip, wanted.rsp
                ));
            };
            if found.kept != wanted.kept {
                return Err(format!(
                    "caller {n}: registers {:x?}, not {:x?}",
                    found.kept, wanted.kept
                ));
            }
        }
        match frames.last() {
            Some(last) if frames.len() < FRAMES && last.ip != self.bottom => {
                Err(format!("the walk ends at {:#x}", last.ip))
            }
            _ => Ok(()),
        }
    }
}

/// Everything that a handler has to leave as it was; not the flags by which the kernel steps.
fn all(r: &Registers) -> [u64; 18] {
    let flags = r.eflags & !(1 << 8 | 1 << 16);
    [
        r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15, r.rip, flags,
    ]
}
