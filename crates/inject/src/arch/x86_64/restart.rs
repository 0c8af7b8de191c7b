//! System calls that a stop has interrupted.
//!
//! Most go on by themselves: when the thread leaves its stop, the kernel finds one of four codes in
//! rax (`include/linux/errno.h`) and decides, in the same moment as it looks for signals, whether
//! the call is made again or ends with `EINTR`. A few calls (`epoll_wait`, `sigtimedwait`,
//! `semtimedop`, those of sockets with a time limit, `io_uring_enter`) give `EINTR` right away,
//! which the program would see although no signal has come.
//!
//! For these, [`ask_for_restart`] replaces `EINTR` by the code of `poll`: again, unless a handler
//! runs. So the kernel decides here, too, and a signal that arrives at the last moment still ends
//! the call. What changes: a relative time limit starts anew.

use super::registers::{Registers, call_number};

const EINTR: i64 = -(libc::EINTR as i64);
/// Restart, unless a handler runs without `SA_RESTART`.
const ERESTARTSYS: i64 = -512;
/// Restart always.
const ERESTARTNOINTR: i64 = -513;
/// Restart, unless a handler runs.
const ERESTARTNOHAND: i64 = -514;
/// Restart with what the kernel has noted of the call: the time that was left.
const ERESTART_RESTARTBLOCK: i64 = -516;

/// Length of the `syscall` instruction, in front of where the thread goes on.
const SYSCALL: u64 = 2;

/// Calls that have had their effect when they give `EINTR`: a connection goes on being made, a
/// descriptor is closed.
const DONE: [libc::c_long; 3] = [libc::SYS_connect, libc::SYS_close, libc::SYS_close_range];

/// Whether the call may be made a second time after `EINTR`.
fn may_repeat(number: u64) -> bool {
    !DONE.contains(&(number as libc::c_long))
}

/// Has the call that a stop has ended with `EINTR` restarted by the kernel, unless a signal's
/// handler runs first. Whether the registers have changed.
///
/// For threads in a stop that was asked for: the kernel looks at the registers behind that. A
/// thread whose process is stopped by job control keeps its `EINTR`, which it would have had
/// without us.
pub(crate) fn ask_for_restart(registers: &mut Registers) -> bool {
    let interrupted = registers.rax as i64 == EINTR;
    let applies = interrupted && call_number(registers).is_some_and(may_repeat);
    if applies {
        registers.rax = ERESTARTNOHAND as u64;
    }
    applies
}

/// Whether the kernel will make the call again, if no signal is delivered.
fn will_restart(registers: &Registers) -> bool {
    let codes = [ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK];
    call_number(registers).is_some() && codes.contains(&(registers.rax as i64))
}

/// The address of the next instruction that the thread executes, if no signal is delivered, and how
/// far behind that its registers say it is.
pub(crate) fn next_instruction(registers: &Registers) -> (u64, u64) {
    let behind = if will_restart(registers) { SYSCALL } else { 0 };
    (registers.rip.wrapping_sub(behind), behind)
}

/// For a thread whose noted call is lost: its call is made from the start.
pub(crate) fn forget_block(registers: &mut Registers) {
    if call_number(registers).is_some() && registers.rax as i64 == ERESTART_RESTARTBLOCK {
        registers.rax = ERESTARTNOHAND as u64;
    }
}

/// Whether a call that we have made is to be made again: the kernel had to look at something first.
pub(crate) fn is_to_be_repeated(errno: i32) -> bool {
    let codes = [ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND];
    codes.contains(&-i64::from(errno))
}

/// The registers with which the thread makes its call again without the kernel's help. Used where
/// nobody is left to let the kernel do it: then a call that would have gone on with the time that
/// was left starts anew, too.
pub(crate) fn by_hand(registers: &Registers) -> Registers {
    let mut again = *registers;
    if will_restart(registers) {
        again.rax = registers.orig_rax;
        again.rip = registers.rip.wrapping_sub(SYSCALL);
    }
    again.orig_rax = u64::MAX;
    again
}

/// Calls that any thread may be taken out of and put back into, best first: those that wait for
/// long, and touch nothing that others wait for.
const GOOD: [libc::c_long; 10] = [
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_select,
    libc::SYS_read,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
];

/// How well a thread in this call serves for calls of ours: less is better.
pub(crate) fn rank(number: Option<u64>) -> usize {
    let place = number.and_then(|n| GOOD.iter().position(|good| *good as u64 == n));
    place.unwrap_or(if number.is_some() { GOOD.len() } else { GOOD.len() + 1 })
}

/// Whether a process in this call, uninterruptible, waits for the child that borrows its memory.
pub(crate) fn is_vfork(number: u64) -> bool {
    [libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3].contains(&(number as libc::c_long))
}

#[cfg(test)]
mod tests {
    use super::{Registers, ask_for_restart, by_hand, next_instruction};

    fn stopped_in(call: libc::c_long, rax: i64) -> Registers {
        // SAFETY: consists of numbers.
        #[allow(unsafe_code, reason = "the structure has no constructor")]
        let mut registers: Registers = unsafe { std::mem::zeroed() };
        (registers.orig_rax, registers.rax, registers.rip) = (call as u64, rax as u64, 0x1002);
        registers
    }

    #[test]
    fn an_interrupted_call_is_left_to_the_kernel_to_restart() {
        let mut registers = stopped_in(libc::SYS_epoll_wait, -4);
        assert!(ask_for_restart(&mut registers));
        assert_eq!((registers.rax as i64, registers.orig_rax), (-514, 232));
        assert_eq!(next_instruction(&registers), (0x1000, 2));
    }

    #[test]
    fn what_is_done_or_no_call_or_no_interruption_stays_as_it_is() {
        let kept = [
            stopped_in(libc::SYS_connect, -4),
            stopped_in(libc::SYS_close, -4),
            stopped_in(-1, -4),
            stopped_in(libc::SYS_read, 7),
            stopped_in(libc::SYS_read, -11),
            stopped_in(libc::SYS_nanosleep, -516),
        ];
        for before in kept {
            let mut after = before;
            assert!(!ask_for_restart(&mut after));
            assert_eq!((after.rax, after.orig_rax), (before.rax, before.orig_rax));
        }
    }

    #[test]
    fn by_hand_a_call_is_made_again_and_a_result_is_kept() {
        for code in [-512, -513, -514, -516] {
            let again = by_hand(&stopped_in(libc::SYS_poll, code));
            assert_eq!((again.rax, again.rip, again.orig_rax), (7, 0x1000, u64::MAX), "{code}");
        }
        for code in [0, 8, -11, -4] {
            let again = by_hand(&stopped_in(libc::SYS_poll, code));
            assert_eq!((again.rax as i64, again.rip, again.orig_rax), (code, 0x1002, u64::MAX));
        }
        let outside = by_hand(&stopped_in(-1, -512));
        assert_eq!((outside.rax as i64, outside.rip), (-512, 0x1002), "a number in a register");
    }
}
