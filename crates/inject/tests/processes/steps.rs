//! The injector is killed before and after each of the calls by which it changes a process.

use super::calls::map;
use super::common::{Kind, Running, give_image, program};
use super::interrupted::{go_on, hook};
use inject::{Error, Force, Target};
use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const VICTIM: &str = "TRAPLINE_TEST_STEPS_VICTIM";
const NAME: &str = "steps::an_injector_that_is_killed_at_each_step_harms_nobody";
/// One of each kind that the program has.
const THREADS: usize = 4;

/// What the injector does; between two words that it says, it is killed.
fn attack(pid: i32) -> Result<(), Error> {
    let target = Target::probe(pid, Force::default())?;
    target.trace(|tracer| {
        let mapped = map(tracer)?;
        let hook = hook(&mapped, tracer, Kind::Dynamic);
        std::io::stdin().read_exact(&mut [0]).expect("a byte");
        println!("begins");
        let moved = hook.install(&mut tracer.stop_all()?)?;
        hook.remove(&mut tracer.stop_all()?)?;
        println!("has moved {moved}");
        Ok(())
    })
}

/// An injector, each of whose system calls is waited for.
struct Stepped {
    child: Child,
    /// The call that each thread is in.
    calls: HashMap<i32, i64>,
}

/// How far one came.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Killed,
    /// After so many steps.
    Done(usize),
}

impl Stepped {
    fn start(victim: i32) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args([NAME, "--exact", "--nocapture"]).env(VICTIM, victim.to_string());
        give_image(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let this = Self { child: command.spawn().expect("starts"), calls: HashMap::new() };
        // When one of its threads reads, the image is in place.
        let folder = format!("/proc/{}/task", this.pid());
        let reads = |task: fs::DirEntry| {
            let call = fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
            call.starts_with("0 0x0 ")
        };
        while !fs::read_dir(&folder).is_ok_and(|mut tasks| tasks.any(|task| task.is_ok_and(reads)))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
        for task in fs::read_dir(&folder).expect("it waits").flatten() {
            let tid = task.file_name().to_str().and_then(|tid| tid.parse().ok()).expect("a number");
            request(libc::PTRACE_SEIZE, tid, options as usize);
            request(libc::PTRACE_INTERRUPT, tid, 0);
        }
        this
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Lets it run, and kills it at a step, counted from 1.
    fn run(&mut self, kill_at: usize) -> End {
        let (mut steps, mut begun, mut over, mut killed) = (0, false, false, false);
        self.child.stdin.as_mut().expect("piped").write_all(b"g").expect("it reads");
        loop {
            let mut status = 0;
            // SAFETY: a place for the answer. Only what this thread has started or traces.
            let tid =
                unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
            assert!(tid > 0, "it is waited for");
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                if tid == self.pid() {
                    return if killed { End::Killed } else { End::Done(steps) };
                }
                continue;
            }
            let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
            if signal == libc::SIGTRAP | 0x80 {
                let number = registers(tid).map_or(-1, |registers| registers.orig_rax as i64);
                let enters = self.calls.remove(&tid).is_none();
                if enters {
                    self.calls.insert(tid, number);
                }
                // What it says marks where it is; what else it writes goes to its victim.
                match number {
                    libc::SYS_write if enters && !begun => begun = true,
                    libc::SYS_write if enters => over = true,
                    libc::SYS_ptrace | libc::SYS_pwrite64 if begun && !over => steps += 1,
                    _ => {}
                }
                if steps == kill_at && !killed {
                    killed = true;
                    self.child.kill().expect("it runs");
                }
            }
            let deliver = if event == 0 && signal & 0x80 == 0 { signal } else { 0 };
            // One that was killed is gone.
            request(libc::PTRACE_SYSCALL, tid, deliver as usize);
        }
    }
}

fn request(request: libc::c_uint, tid: i32, data: usize) -> libc::c_long {
    // SAFETY: requests that read and write nothing of this process's.
    unsafe { libc::ptrace(request, tid, 0_usize, data) }
}

fn registers(tid: i32) -> Option<libc::user_regs_struct> {
    let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::uninit();
    // SAFETY: a place for the answer.
    let done = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0_usize, registers.as_mut_ptr()) };
    // SAFETY: then it is filled.
    (done == 0).then(|| unsafe { registers.assume_init() })
}

#[test]
fn an_injector_that_is_killed_at_each_step_harms_nobody() {
    if let Some(pid) = std::env::var_os(VICTIM) {
        let pid = pid.to_str().and_then(|pid| pid.parse().ok()).expect("a number");
        attack(pid).expect("every step");
        return;
    }
    let interrupted = program("interrupted", Kind::Dynamic).expect("a C compiler");
    let mut step = 0;
    let steps = loop {
        step += 1;
        let mut victim = Running::start(&interrupted, &[&THREADS.to_string()]);
        assert_eq!(victim.line(), "waiting");
        let end = Stepped::start(victim.pid()).run(step);
        // Its threads come back from their handlers, and run through the function twice.
        go_on(&mut victim);
        let (said, status) = victim.end();
        assert_eq!(said, format!("{} calls\n", 2 * THREADS), "step {step}: {status}");
        assert_eq!(status.code(), Some(7), "step {step}");
        if let End::Done(steps) = end {
            break steps;
        }
    };
    println!("killed at {steps} steps");
    // All threads are moved, and the jump is written, there and back.
    assert!(steps > 2 * (THREADS + 2), "{steps}");
}
