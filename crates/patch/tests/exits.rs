//! Where functions leave, kind by kind.

use patch::{Exit, Function, Leave, NoExits, Options, Plan};

const ADDRESS: u64 = 0x40_1000;

fn planned(code: &[u8], after: &[u8]) -> Plan {
    let f = Function { address: ADDRESS, code, after, site: 0 };
    patch::plan(&f, &Options { exits: true, ..Options::default() }).expect("a plan")
}

fn exits(code: &[u8], after: &[u8]) -> Result<Vec<Exit>, NoExits> {
    planned(code, after).exits
}

/// What is emitted for an exit with these hooks.
fn emit(exit: &Exit, at: u64, hook: &[u8]) -> (Vec<u8>, patch::Body) {
    let mut out = Vec::new();
    let body =
        exit.emit(at, &mut |_, _, out| out.extend_from_slice(hook), &mut out).expect("it reaches");
    assert_eq!(body.size as usize, out.len());
    (out, body)
}

#[test]
fn the_end_of_a_function() {
    // push rbp; mov rbp, rsp; sub rsp, 16; add rsp, 16; pop rbp; ret
    let code = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0x48, 0x83, 0xc4, 0x10, 0x5d, 0xc3];
    let exits = exits(&code, &[]).expect("room");
    let [exit] = &exits[..] else { panic!("{exits:?}") };
    assert!(!exit.at_entry());
    assert_eq!(exit.detour().site(), ADDRESS + 8);
    assert_eq!(exit.detour().original(), &code[8..]);
    assert_eq!(exit.detour().boundaries(), [4]);
    let [leaving] = exit.leaves() else { panic!("{exit:?}") };
    assert_eq!((leaving.address, leaving.leave), (ADDRESS + 13, Leave::Return));
    assert!(leaving.live.rax && !leaving.live.red_zone);
    let hook = [0x0f, 0x0b, 0x0f, 0x0b];
    let (out, body) = emit(exit, 0x50_0000, &hook);
    assert_eq!(out, [0x48, 0x83, 0xc4, 0x10, 0x5d, 0x0f, 0x0b, 0x0f, 0x0b, 0xc3]);
    // The hook is the `ret` to whoever looks, and a thread at the `ret` begins with the hook.
    assert_eq!(body.present(7).map(|p| p.ip), Some(ADDRESS + 13));
    assert_eq!(body.present(9).map(|p| p.ip), Some(ADDRESS + 13));
    assert_eq!(body.relocated(ADDRESS + 13), Some(5));
}

#[test]
fn a_function_that_is_all_window() {
    // mov rax, [rdi]; ret; and padding
    let plan = planned(&[0x48, 0x8b, 0x07, 0xc3], &[0x90; 12]);
    let exits = plan.exits.as_ref().expect("one jump for both");
    assert!(exits[0].at_entry());
    let (out, _) = emit(&exits[0], 0x50_0000, &[0x90]);
    assert_eq!(out, [0x48, 0x8b, 0x07, 0x90, 0xc3]);
}
