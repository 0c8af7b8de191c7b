//! A child that is traced.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

/// How the child stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// By this signal, which it has not got.
    Signal(c_int),
    /// It has exited with this.
    Exited(c_int),
    /// It was killed by this signal.
    Killed(c_int),
}

/// The child, while it is stopped. All calls are the parent thread's.
pub(crate) struct Child {
    pub(crate) pid: libc::pid_t,
    /// What stands under the breakpoints that are set.
    under: BTreeMap<u64, u8>,
    gone: bool,
}

pub(crate) type Registers = libc::user_regs_struct;

const INT3: u8 = 0xcc;
/// The flag by which the kernel steps.
pub(crate) const TRAP: u64 = 1 << 8;

impl Child {
    /// Forks; the child runs `f`, traced, from its first stop (SIGSTOP) on.
    pub(crate) fn start(f: impl FnOnce()) -> Self {
        // SAFETY: the child runs one thread, allocates through glibc's allocator, which survives a
        // fork, and leaves by `_exit`.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: asks to be traced by the parent.
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!ended)) };
        }
        let mut it = Self { pid, under: BTreeMap::new(), gone: false };
        assert_eq!(it.wait(), Stop::Signal(libc::SIGSTOP), "may programs be traced here?");
        // SAFETY: dies with us, whatever happens.
        unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL) };
        it
    }

    fn ask(&self, request: c_uint, address: u64, data: *mut c_void) {
        // SAFETY: the child is ours and stopped; `data` is what the request takes.
        let result = unsafe { libc::ptrace(request, self.pid, address, data) };
        assert!(result >= 0, "ptrace {request}: {}", std::io::Error::last_os_error());
    }

    fn wait(&mut self) -> Stop {
        let mut status = 0;
        // SAFETY: waits for our child.
        let pid = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(pid, self.pid);
        self.gone = !libc::WIFSTOPPED(status);
        if libc::WIFSTOPPED(status) {
            Stop::Signal(libc::WSTOPSIG(status))
        } else if libc::WIFEXITED(status) {
            Stop::Exited(libc::WEXITSTATUS(status))
        } else {
            Stop::Killed(libc::WTERMSIG(status))
        }
    }

    /// Runs, with a signal or 0.
    pub(crate) fn run(&mut self, signal: c_int) -> Stop {
        self.ask(libc::PTRACE_CONT, 0, ptr::without_provenance_mut(signal as usize));
        self.wait()
    }

    /// Runs one instruction, or, with a signal, up to the first one of its handler.
    pub(crate) fn step(&mut self, signal: c_int) -> Stop {
        self.ask(libc::PTRACE_SINGLESTEP, 0, ptr::without_provenance_mut(signal as usize));
        self.wait()
    }

    pub(crate) fn registers(&self) -> Registers {
        // SAFETY: plain data.
        let mut registers: Registers = unsafe { std::mem::zeroed() };
        self.ask(libc::PTRACE_GETREGS, 0, (&raw mut registers).cast());
        if registers.eflags & TRAP != 0 {
            // Stepped over a `popfq`, the kernel may take its own trap flag for the child's.
            registers.eflags &= !TRAP;
            self.set_registers(&registers);
        }
        registers
    }

    pub(crate) fn set_registers(&self, registers: &Registers) {
        self.ask(libc::PTRACE_SETREGS, 0, ptr::from_ref(registers).cast_mut().cast());
    }

    /// Which signals are blocked.
    pub(crate) fn mask(&self) -> u64 {
        let mut mask = 0_u64;
        self.ask(libc::PTRACE_GETSIGMASK, 8, (&raw mut mask).cast());
        mask
    }

    pub(crate) fn set_mask(&self, mut mask: u64) {
        self.ask(libc::PTRACE_SETSIGMASK, 8, (&raw mut mask).cast());
    }

    pub(crate) fn word(&self, address: u64) -> u64 {
        let mut word = 0_u64;
        let mine = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: 8 };
        let its =
            libc::iovec { iov_base: ptr::without_provenance_mut(address as usize), iov_len: 8 };
        // SAFETY: eight bytes of ours.
        let n =
            unsafe { libc::process_vm_readv(self.pid, &raw const mine, 1, &raw const its, 1, 0) };
        assert_eq!(n, 8, "{address:#x}: {}", std::io::Error::last_os_error());
        word
    }

    pub(crate) fn set_word(&self, address: u64, word: u64) {
        self.ask(libc::PTRACE_POKEDATA, address, ptr::without_provenance_mut(word as usize));
    }

    fn set_byte(&self, address: u64, byte: u8) -> u8 {
        // The aligned word around it, which lies in one page.
        let (start, shift) = (address & !7, address % 8 * 8);
        let old = self.word(start);
        self.set_word(start, old & !(0xff << shift) | u64::from(byte) << shift);
        (old >> shift) as u8
    }

    /// Puts a breakpoint there.
    pub(crate) fn break_at(&mut self, address: u64) {
        if !self.under.contains_key(&address) {
            let byte = self.set_byte(address, INT3);
            self.under.insert(address, byte);
        }
    }

    /// Takes all of them away. If the child has just met one, it stands before it.
    pub(crate) fn unbreak(&mut self) {
        let mut registers = self.registers();
        if self.under.contains_key(&(registers.rip - 1)) {
            registers.rip -= 1;
            self.set_registers(&registers);
        }
        for (address, byte) in std::mem::take(&mut self.under) {
            self.set_byte(address, byte);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        // SAFETY: our child, which is not waited for yet.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        // SAFETY: likewise.
        unsafe { libc::waitpid(self.pid, ptr::null_mut(), 0) };
    }
}
