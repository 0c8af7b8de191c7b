//! Where functions leave, kind by kind.

use patch::{
    Body, Convention, Exit, Function, Leave, Liveness, NoExits, Options, Piece, Plan, Surroundings,
};

const AT: u64 = 0x40_1000;
const STUB: u64 = AT + 0x10_0000;
/// Where tables are.
const DATA: u64 = AT + 0x8000;
/// A function elsewhere.
const OTHER: u64 = AT + 0x1000;

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|b| u8::from_str_radix(b, 16).expect("hexadecimal")).collect()
}

/// `opcode` and the distance from behind it, at `at`, to `to`.
fn near(opcode: &[u8], at: u64, to: u64) -> Vec<u8> {
    let end = at + opcode.len() as u64 + 4;
    let distance = to.wrapping_sub(end) as i64 as i32;
    [opcode, &distance.to_le_bytes()].concat()
}

/// Instructions one after the other; those that lead somewhere say where.
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn of(text: &str) -> Self {
        Self(hex(text))
    }

    fn then(mut self, text: &str) -> Self {
        self.0.extend(hex(text));
        self
    }

    fn to(mut self, opcode: &str, to: u64) -> Self {
        let at = AT + self.0.len() as u64;
        self.0.extend(near(&hex(opcode), at, to));
        self
    }
}

/// What is around: pieces of code, and data.
#[derive(Default)]
struct Around {
    pieces: Vec<(u64, Vec<u8>, bool)>,
    data: Vec<(u64, Vec<u8>)>,
}

impl Around {
    fn table4(base: u64, labels: &[u64]) -> Self {
        let entry = |to: &u64| (to.wrapping_sub(base) as i64 as i32).to_le_bytes();
        Self { data: vec![(base, labels.iter().flat_map(entry).collect())], ..Self::default() }
    }

    fn table8(base: u64, labels: &[u64]) -> Self {
        let data = labels.iter().flat_map(|to| to.to_le_bytes()).collect();
        Self { data: vec![(base, data)], ..Self::default() }
    }

    fn piece(address: u64, code: Vec<u8>, part: bool) -> Self {
        Self { pieces: vec![(address, code, part)], ..Self::default() }
    }
}

impl Surroundings for Around {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        self.data.iter().any(|(at, bytes)| {
            let from = address.wrapping_sub(*at) as usize;
            let part = bytes.get(from..).and_then(|part| part.get(..into.len()));
            part.map(|part| into.copy_from_slice(part)).is_some()
        })
    }

    fn piece(&self, address: u64) -> Option<Piece<'_>> {
        let all = self.pieces.iter();
        let inside = |(at, code, _): &&(u64, Vec<u8>, bool)| {
            (*at..*at + code.len() as u64).contains(&address)
        };
        let (address, code, part) = all.clone().find(inside)?;
        Some(Piece { address: *address, code, part: *part })
    }
}

fn planned(code: &[u8], after: &[u8], options: &Options<'_>) -> Plan {
    let f = Function { address: AT, code, after, site: 0 };
    patch::plan(&f, &Options { exits: true, ..*options }).expect("a plan")
}

fn exits_in(code: &Code, around: &Around) -> Result<Vec<Exit>, NoExits> {
    let options = Options { surroundings: Some(around), ..Options::default() };
    planned(&code.0, &[0x90; 8], &options).exits
}

fn exits(code: &str, after: &str) -> Result<Vec<Exit>, NoExits> {
    planned(&hex(code), &hex(after), &Options::default()).exits
}

/// Of each exit: where its window begins in the function, its length, and its leaves' offsets.
type Windows = Vec<(u64, usize, Vec<u64>)>;

fn windows(exits: &[Exit]) -> Windows {
    let one = |exit: &Exit| {
        let leaves = exit.leaves().iter().map(|leaving| leaving.address.wrapping_sub(AT)).collect();
        (exit.detour().site().wrapping_sub(AT), exit.detour().window(), leaves)
    };
    exits.iter().map(one).collect()
}

/// What is emitted for an exit with these hooks.
fn emit(exit: &Exit, hook: &[u8]) -> (Vec<u8>, Body) {
    let mut out = Vec::new();
    let body = exit
        .emit(STUB, &mut |_, _, out| out.extend_from_slice(hook), &mut out)
        .expect("it reaches");
    assert_eq!(body.size as usize, out.len());
    (out, body)
}

#[test]
fn windows_of_returns() {
    // (what, code, behind it, windows)
    type Expected = &'static [(u64, usize, &'static [u64])];
    let table: &[(&str, &str, &str, Expected)] = &[
        (
            "what is in front of it",
            "55 48 89 e5 48 83 ec 10 48 83 c4 10 5d c3",
            "",
            &[(8, 6, &[13])],
        ),
        ("no more than a jump needs", "53 55 41 54 90 31 c0 41 5c 5d 5b c3", "", &[(7, 5, &[11])]),
        ("the padding behind it", "0f 1f 44 00 00 c3", "90 90 90 90", &[(5, 5, &[5])]),
        ("with int3", "0f 1f 44 00 00 c3", "cc cc cc cc", &[(5, 5, &[5])]),
        ("one and the padding", "0f 1f 44 00 00 31 c0 c3", "90 90", &[(5, 5, &[7])]),
        ("rep ret", "0f 1f 44 00 00 31 c0 90 f3 c3", "", &[(5, 5, &[8])]),
        ("ret with a number", "0f 1f 44 00 00 31 c0 c2 08 00", "", &[(5, 5, &[7])]),
        ("behind a call", "0f 1f 44 00 00 e8 00 10 00 00 c3", "90 90 90 90", &[(10, 5, &[10])]),
        ("all of it", "48 8b 07 c3", "90", &[(0, 5, &[3])]),
        (
            "two, and the one in front is free of the other",
            "0f 1f 44 00 00 85 ff 74 05 31 c0 90 90 c3 31 d2 90 90 c3",
            "",
            // je leads to the second one's first byte
            &[(9, 5, &[13]), (14, 5, &[18])],
        ),
        (
            "a branch and padding between blocks",
            "0f 1f 44 00 00 74 04 c3 90 90 90 c3",
            "90 90 90 90",
            &[(5, 5, &[7]), (11, 5, &[11])],
        ),
    ];
    for (what, code, after, expected) in table {
        let got = exits(code, after).map(|exits| windows(&exits));
        let expected: Windows = expected.iter().map(|(a, b, c)| (*a, *b, c.to_vec())).collect();
        assert_eq!(got, Ok(expected), "{what}");
    }
}

#[test]
fn functions_without_exits() {
    // (what, code, behind it, why)
    let table: &[(&str, &str, &str, NoExits)] = &[
        ("no padding", "0f 1f 44 00 00 c3", "55 48 89 e5", NoExits::NoRoom),
        ("a branch to the ret", "0f 1f 44 00 00 74 04 31 c0 90 90 c3", "", NoExits::NoRoom),
        ("a branch behind the ret", "0f 1f 44 00 00 74 03 c3 90 90 90 c3", "", NoExits::NoRoom),
        ("a jump by an argument's bits", "0f 1f 44 00 00 53 ff e0", "", NoExits::UnknownJumps),
        ("a ret to what it pushed", "0f 1f 44 00 00 50 31 c0 90 c3", "", NoExits::OtherStack),
        ("its own subroutine", "0f 1f 44 00 00 e8 01 00 00 00 c3 c3", "", NoExits::OtherStack),
        ("runs on", "0f 1f 44 00 00 31 c0", "", NoExits::FallsThrough),
        ("data in its way", "0f 1f 44 00 00 31 c0 06 06 c3", "", NoExits::Undecodable),
        (
            "code that nothing leads to",
            "0f 1f 44 00 00 31 c0 90 90 c3 31 c0 c3",
            "",
            NoExits::Hidden,
        ),
        ("iretq", "0f 1f 44 00 00 31 c0 90 48 cf", "", NoExits::NotRelocatable),
        ("loop out of it", "0f 1f 44 00 00 31 c0 e2 70 c3", "90 90 90", NoExits::NotRelocatable),
        (
            "of another function with this on the stack",
            "0f 1f 44 00 00 53 e9 00 10 00 00",
            "",
            NoExits::Parts,
        ),
    ];
    for (what, code, after, why) in table {
        assert_eq!(exits(code, after).map(|e| windows(&e)), Err(*why), "{what}");
    }
    let f = Function { address: AT, code: &hex("0f 1f 44 00 00 31 c0 c3"), after: &[], site: 5 };
    let plan = patch::plan(&f, &Options { exits: true, ..Options::default() }).expect("a plan");
    assert_eq!(plan.exits, Err(NoExits::NotEntry));
    let plan = patch::plan(&Function { site: 0, ..f }, &Options::default()).expect("a plan");
    assert_eq!(plan.exits, Err(NoExits::NotAsked));
    let rseq = AT + 7..AT + 20;
    let options = Options { rseq: std::slice::from_ref(&rseq), ..Options::default() };
    let code = hex("0f 1f 44 00 00 31 c0 90 90 c3");
    assert_eq!(planned(&code, &[], &options).exits, Err(NoExits::Rseq));
}

#[test]
fn functions_that_never_return() {
    // push rax; call abort
    assert_eq!(exits("50 31 ff 90 e8 00 10 00 00", ""), Ok(vec![]));
    // A loop without an end, and one that traps.
    assert_eq!(exits("0f 1f 44 00 00 f3 90 eb fc", ""), Ok(vec![]));
    assert_eq!(exits("0f 1f 44 00 00 0f 0b", ""), Ok(vec![]));
}

#[test]
fn a_hook_is_the_instruction_that_leaves() {
    let exits = exits("55 48 89 e5 48 83 ec 10 48 83 c4 10 5d c3", "").expect("room");
    let [exit] = &exits[..] else { panic!("{exits:?}") };
    assert!(!exit.at_entry());
    assert_eq!(exit.detour().boundaries(), [4]);
    assert_eq!(exit.leaves()[0].leave, Leave::Return);
    let (out, body) = emit(exit, &hex("0f 0b 0f 0b"));
    assert_eq!(out, hex("48 83 c4 10 5d 0f 0b 0f 0b c3"));
    assert_eq!(body.present(4).map(|p| p.ip), Some(AT + 12));
    assert_eq!(body.present(7).map(|p| p.ip), Some(AT + 13));
    assert_eq!(body.present(9).map(|p| p.ip), Some(AT + 13));
    // A thread that was at the `ret` is to come by the hook.
    assert_eq!(body.relocated(AT + 13), Some(5));
    // However long it is, and if there is none.
    let (out, body) = emit(exit, &[0x90; 1000]);
    assert_eq!(out.len(), 1006);
    assert!((5..1006).all(|at| body.present(at).is_some_and(|p| p.ip == AT + 13)));
    assert_eq!(body.relocated(AT + 13), Some(5));
    let (_, body) = emit(exit, &[]);
    assert_eq!(body.relocated(AT + 13), Some(5));
}

#[test]
fn tail_jumps() {
    let frame = "53 48 89 fb 0f 1f 44 00 00";
    // (instructions, where it leads)
    let direct = Code::of(frame).then("5b").to("e9", OTHER);
    let exits = exits_in(&direct, &Around::default()).expect("room");
    assert_eq!(windows(&exits), [(10, 5, vec![10])]);
    assert_eq!(exits[0].leaves()[0].leave, Leave::Tail(Some(OTHER)));
    let (out, _) = emit(&exits[0], &[0x90]);
    assert_eq!(out, [vec![0x90], near(&[0xe9], STUB + 1, OTHER)].concat());
    // Through what the linker fills, out of an object, and by an argument.
    for (jump, window) in
        [("ff 25 00 10 00 00", 6), ("ff a7 88 00 00 00", 6), ("31 c0 5b ff e6", 5)]
    {
        let code = Code::of("0f 1f 44 00 00 53").then(if window == 6 { "5b" } else { "" });
        let exits = exits_in(&code.then(jump), &Around::default()).expect(jump);
        assert_eq!(exits[0].leaves()[0].leave, Leave::Tail(None), "{jump}");
        assert_eq!(exits[0].detour().window(), window, "{jump}");
    }
    // Back to its own first byte is no exit.
    let code = Code::of(frame).then("5b").to("e9", AT);
    assert_eq!(exits_in(&code, &Around::default()), Ok(vec![]));
}

#[test]
fn conditional_tail_jumps() {
    // test edi, edi; pop rbx; je other; xor eax, eax; ret
    let code = Code::of("53 0f 1f 44 00 00 85 ff 5b").to("0f 84", OTHER).then("31 c0 5d 55 c3");
    let exits = exits_in(&code, &Around::default()).expect("room");
    assert_eq!(windows(&exits), [(9, 6, vec![9]), (15, 5, vec![19])]);
    assert_eq!(exits[0].leaves()[0].leave, Leave::Tail(Some(OTHER)));
    // Over the hook if it does not jump.
    let (out, body) = emit(&exits[0], &hex("0f 0b"));
    let jump = near(&[0xe9], STUB + 8, OTHER);
    let back = near(&[0xe9], STUB + 13, AT + 15);
    assert_eq!(out, [hex("0f 85 07 00 00 00 0f 0b"), jump, back].concat());
    assert_eq!(body.relocated(AT + 9), Some(0));
    assert_eq!(body.relocated(AT + 15), Some(13));
    assert!((6..13).all(|at| body.present(at).is_none_or(|p| p.ip == AT + 9)));
    // One window with two that leave.
    let code = Code::of("53 0f 1f 44 00 00 85 ff 5b").to("0f 84", OTHER).then("c3");
    let exits = exits_in(&code, &Around::default()).expect("room");
    assert_eq!(windows(&exits), [(9, 7, vec![9, 15])]);
    let (out, body) = emit(&exits[0], &hex("0f 0b"));
    let jump = near(&[0xe9], STUB + 8, OTHER);
    assert_eq!(out, [hex("0f 85 07 00 00 00 0f 0b"), jump, hex("0f 0b c3")].concat());
    assert_eq!(body.relocated(AT + 15), Some(13));
}

/// A switch over edi with three cases that return, one of them by what all share.
fn switch(compare: &str) -> (Code, [u64; 3]) {
    let before = Code::of("0f 1f 44 00 00").then(compare);
    // lea rdx, [table]; movsxd rax, [rdx + rdi*4]; add rax, rdx; jmp rax
    let code = before.to("48 8d 15", DATA).then("48 63 04 ba 48 01 d0 ff e0");
    let first = AT + code.0.len() as u64;
    // mov eax, 1; ret; mov eax, 2; ret; mov eax, 3; ret
    let code = code.then("b8 01 00 00 00 c3 b8 02 00 00 00 c3 b8 03 00 00 00 c3");
    (code, [first, first + 6, first + 12])
}

#[test]
fn jump_tables() {
    // cmp edi, 2; ja behind the third case's mov: to its ret
    let (code, labels) = switch("83 ff 02");
    let around = Around::table4(DATA, &labels);
    let got = exits_in(&code, &around).map(|exits| windows(&exits));
    let offset = |label: u64| label - AT;
    let expected: Windows = labels.iter().map(|l| (offset(*l), 6, vec![offset(*l) + 5])).collect();
    assert_eq!(got, Ok(expected), "without a branch the table ends where its labels do");
    // A fourth entry leads among the bytes of a window.
    let more = Around::table4(DATA, &[labels[0], labels[1], labels[2], labels[1] + 5]);
    assert_eq!(exits_in(&code, &more).map(|e| windows(&e)), Err(NoExits::NoRoom));
    // Nobody to ask, or nothing there.
    assert_eq!(exits_in(&code, &Around::default()).map(|_| ()), Err(NoExits::UnknownJumps));
    let nobody = planned(&code.0, &[], &Options::default()).exits;
    assert_eq!(nobody.map(|_| ()), Err(NoExits::UnknownJumps));
    // A case is missing in what is read: it leads to nothing that is known.
    let less = Around::table4(DATA, &labels[..2]);
    assert_eq!(exits_in(&code, &less).map(|_| ()), Err(NoExits::Hidden));
    let (bounded, labels) = switch("83 ff 02 77 22");
    let wrong = Around::table4(DATA, &[labels[0], OTHER, labels[2]]);
    assert_eq!(exits_in(&bounded, &wrong).map(|_| ()), Err(NoExits::UnknownJumps));
    // In the middle of an instruction there is no label.
    let (code, labels) = switch("83 ff 02");
    let middle = Around::table4(DATA, &[labels[0], labels[1], labels[2], labels[1] + 2]);
    assert_eq!(exits_in(&code, &middle).map(|_| ()), Err(NoExits::UnknownJumps));
}

#[test]
fn tables_are_as_long_as_the_comparison_says() {
    // cmp edi, 2; ja to the last case
    let (code, labels) = switch("83 ff 02 77 1c");
    // What is behind the table looks like a label in the middle of a window.
    let around = Around::table4(DATA, &[labels[0], labels[1], labels[2], labels[0] + 5]);
    let got = exits_in(&code, &around).expect("three cases");
    assert_eq!(got.len(), 3);
}

#[test]
fn absolute_tables_and_tables_of_functions() {
    // lea rdx, [table]; jmp [rdx + rdi*8]
    let dispatch = Code::of("0f 1f 44 00 00").to("48 8d 15", DATA).then("ff 24 fa");
    let first = AT + dispatch.0.len() as u64;
    let code = dispatch.then("b8 01 00 00 00 c3 b8 02 00 00 00 c3");
    let around = Around::table8(DATA, &[first, first + 6]);
    assert_eq!(exits_in(&code, &around).expect("two cases").len(), 2);
    // The same code to who calls functions by number.
    let code = Code::of("0f 1f 44 00 00").to("48 8d 15", DATA).then("31 c0 ff 24 fa");
    let around = Around::table8(DATA, &[OTHER, OTHER + 0x100]);
    let exits = exits_in(&code, &around).expect("a tail jump");
    assert_eq!(exits[0].leaves()[0].leave, Leave::Tail(None));
}

#[test]
fn parts_elsewhere() {
    // push rbx; test edi, edi; js part; pop rbx; ret
    let cold = OTHER;
    let hot = |depth: &str| {
        let code = Code::of("53 0f 1f 44 00 00").then(depth).then("85 ff").to("0f 88", cold);
        code.then("31 c0 5b 55 5d").then("c3")
    };
    // The part works, and returns for itself: xor eax, eax; mov ecx, 1; pop rbx; ret
    let returns = hex("31 c0 b9 01 00 00 00 90 90 5b c3");
    let around = Around::piece(cold, returns.clone(), false);
    let code = Code::of("53 0f 1f 44 00 00 85 ff").to("0f 88", cold).then("31 c0 90 5b c3");
    let exits = exits_in(&code, &around).expect("with something on the stack it is a part");
    assert_eq!(windows(&exits), [(14, 5, vec![18]), (cold - AT + 2, 9, vec![cold - AT + 10])]);
    assert_eq!(exits_in(&code, &Around::default()).map(|_| ()), Err(NoExits::Parts));
    // With nothing on the stack it is a part if that is known, or if it comes back.
    let code = hot("5b");
    let code = Code(code.0[..code.0.len() - 6].to_vec()).then("31 c0 90 90 c3");
    let tails = |part, bytes: Vec<u8>| {
        let exits = exits_in(&code, &Around::piece(cold, bytes, part)).expect("room");
        let leaves = exits.iter().flat_map(Exit::leaves);
        leaves.filter(|leaving| leaving.leave != Leave::Return).count()
    };
    let alone = hex("31 c0 b9 01 00 00 00 c3");
    assert_eq!(tails(false, alone.clone()), 1);
    assert_eq!(tails(true, alone), 0);
    let back = near(&[0xe9], cold, AT + code.0.len() as u64 - 5);
    assert_eq!(tails(false, back), 0);
    assert!(!hot("").0.is_empty() && !returns.is_empty());
}

#[test]
fn landing_pads_lead_into_functions() {
    // push rbx; call f; pop rbx; ret; and what an exception comes to: mov rbx, rax; call g (which
    // does not return)
    let code = Code::of("53 0f 1f 44 00 00").to("e8", OTHER).then("31 c0 90 5b c3");
    let pad = AT + code.0.len() as u64;
    let code = code.then("48 89 c3").to("e8", OTHER);
    assert_eq!(exits_in(&code, &Around::default()).map(|_| ()), Err(NoExits::Hidden));
    let pads = [pad];
    let options = Options { branch_targets: &pads, ..Options::default() };
    let found = planned(&code.0, &[], &options).exits.expect("the pad is known");
    assert_eq!(windows(&found), [(11, 5, vec![15])]);
    // A way from elsewhere into a window.
    let ways = [pad - 1, pad];
    let options = Options { branch_targets: &ways, ..Options::default() };
    assert_eq!(planned(&code.0, &[], &options).exits.map(|_| ()), Err(NoExits::NoRoom));
}

#[test]
fn what_is_dead() {
    let live = |code: &str| {
        let all = exits(code, "90 90 90 90").expect(code);
        all.last().and_then(|exit| exit.leaves().last()).expect("it leaves").live
    };
    let nothing = Liveness { red_zone: false, ..Liveness::ALL };
    // Nothing is written: everything may be somebody's.
    assert_eq!(live("0f 1f 44 00 00 90 90 90 90 c3"), nothing);
    // xor ecx, ecx; mov rsi, rdi; add eax, ecx: what is overwritten, and the flags.
    let some = live("0f 1f 44 00 00 31 c9 48 89 fe 01 c8 c3");
    assert_eq!(some, Liveness { rcx: false, rsi: false, flags: false, ..nothing });
    // A comparison whose outcome nobody has looked at may be the result.
    assert!(live("0f 1f 44 00 00 31 c9 39 f7 90 90 c3").flags);
    assert!(!live("0f 1f 44 00 00 39 f7 0f 94 c0 90 c3").flags);
    // Registers that it gives back as they were.
    assert!(live("51 0f 1f 44 00 00 31 c9 29 c8 59 c3").rcx);
    assert!(live("48 89 4c 24 f8 31 c9 29 c8 48 8b 4c 24 f8 c3").rcx);
    // Assembly that does not save what it should: nothing is known of its callers.
    assert_eq!(live("0f 1f 44 00 00 31 c9 31 db 01 c8 c3"), nothing);
    // Arguments of the next one, and where it is.
    let tail = live("0f 1f 44 00 00 45 31 db 31 c9 31 f6 ff e7");
    assert_eq!(tail, Liveness { r11: false, flags: false, ..nothing });
    assert!(live("0f 1f 44 00 00 4c 8b 1f 31 c9 31 f6 41 ff e3").r11);
}

#[test]
fn branches_back_and_entries_keep_their_bytes() {
    // Five bytes; dec edi; jne to the first; and a ret with its room around the branch.
    let plan = planned(
        &hex("0f 1f 44 00 00 ff cf 75 f7 31 c0 31 d2 31 f6 90 90 c3"),
        &[],
        &Options::default(),
    );
    let exits = plan.exits.as_ref().expect("room behind the branch");
    let back = plan.back.as_ref().expect("one branch");
    let branch =
        back[0].detour.as_ref().map_or(AT + 7..AT + 8, |d| d.site()..d.site() + d.window() as u64);
    for exit in exits {
        let window = exit.detour().site()..exit.detour().site() + exit.detour().window() as u64;
        assert!(window.end <= branch.start || branch.end <= window.start, "{window:x?}");
        assert!(window.start >= AT + 5);
    }
}

#[test]
fn functions_of_go() {
    let go = Options { convention: Convention::Go, ..Options::default() };
    // cmp rsp, [r14 + 16]; jbe grow; sub rsp, 16; add rsp, 16; ret; grow: call; jmp to the first
    let code = Code::of("49 3b 66 10 76 0f 48 83 ec 10 90 90 48 83 c4 10 c3")
        .then("0f 1f 00 90")
        .to("e8", OTHER)
        .to("e9", AT);
    let exits = planned(&code.0, &[], &go).exits.expect("room");
    assert_eq!(windows(&exits), [(12, 5, vec![16])]);
    assert_eq!(exits[0].leaves()[0].live, Liveness::GO);
    // One that was preempted between the two would go on there: there is the padding behind.
    let aside = Options { exits_put_aside: true, ..go };
    let exits = planned(&code.0, &[], &aside).exits.expect("room");
    assert_eq!(windows(&exits), [(16, 5, vec![16])]);
    let short = hex("0f 1f 44 00 00 48 83 ec 10 90 48 83 c4 10 c3");
    assert_eq!(planned(&short, &[], &aside).exits.map(|_| ()), Err(NoExits::PutAside));
    assert!(planned(&short, &[], &go).exits.is_ok());
    // There is room in the bytes of `mov rbp, [rsp + 8]` alone, in front of the two.
    let frame = hex("0f 1f 44 00 00 48 83 ec 10 48 8b 6c 24 08 48 83 c4 10 c3");
    let exits = planned(&frame, &[], &aside).exits.expect("room");
    assert_eq!(windows(&exits), [(9, 10, vec![18])]);
    assert!(exits[0].detour().boundaries().is_empty());
    let exits = planned(&frame, &[], &go).exits.expect("room");
    assert_eq!(windows(&exits), [(14, 5, vec![18])]);
    // A jump to a function by a register that a hook may use.
    let code = hex("0f 1f 44 00 00 0f 1f 44 00 00 41 ff e4");
    assert_eq!(planned(&code, &[], &go).exits.map(|_| ()), Err(NoExits::NotRelocatable));
    // A fault among them would not be understood.
    let code = Code::of("0f 1f 44 00 00 48 8b 03 90 c3");
    assert_eq!(planned(&code.0, &[], &go).exits.map(|_| ()), Err(NoExits::NoRoom));
    assert!(planned(&code.0, &[], &Options::default()).exits.is_ok());
}

#[test]
fn functions_that_share_code_have_no_exits() {
    // The second begins in the first.
    let code = hex("0f 1f 44 00 00 31 c0 0f 1f 44 00 00 31 c9 90 5b 53 c3");
    let plan = |from: usize| {
        let address = AT + from as u64;
        let f = Function { address, code: &code[from..], after: &[], site: 0 };
        patch::plan(&f, &Options { exits: true, ..Options::default() })
    };
    let mut decisions = vec![plan(0), plan(7), Err(patch::Refusal::Empty)];
    assert!(decisions[..2].iter().flatten().all(|plan| plan.exits.is_ok()));
    patch::keep_apart(&mut decisions);
    let all = decisions[..2].iter().flatten();
    assert!(all.clone().all(|plan| plan.exits == Err(NoExits::Shared)));
    let mut alone = vec![plan(0)];
    patch::keep_apart(&mut alone);
    assert!(alone[0].as_ref().is_ok_and(|plan| plan.exits.is_ok()));
}
