//! Processes that are left alone, with a line that says what to do.

use super::common::{Kind, Running, program};
use inject::{Force, Refusal, Target};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

fn why(pid: i32) -> Refusal {
    let refused = Target::probe(pid, Force::default()).expect_err("left alone");
    let line = refused.to_string();
    assert!(
        line.contains(&pid.to_string()) && line.contains(": ") && !line.contains('\n'),
        "{line}"
    );
    refused.why
}

fn is_root() -> bool {
    // SAFETY: takes nothing.
    let user = unsafe { libc::geteuid() };
    user == 0
}

#[test]
fn what_has_ended() {
    let mut child = Command::new("true").spawn().expect("starts");
    let pid = child.id() as i32;
    while super::common::state(pid) != 'Z' {
        std::thread::yield_now();
    }
    assert_eq!(why(pid), Refusal::Ended);
    child.wait().expect("a child");
    assert_eq!(why(pid), Refusal::Gone);
}

#[test]
fn the_kernels_threads() {
    if std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n") {
        assert_eq!(why(2), Refusal::KernelThread);
    } else {
        eprintln!("SKIPPED: threads of the kernel are not seen in here");
    }
}

#[test]
fn the_strict_mode_of_seccomp() {
    let odd = program("odd", Kind::Dynamic).expect("a C compiler");
    let mut running = Running::start(&odd, &["strict"]);
    assert_eq!(running.line(), "ready");
    let strict = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid()));
        status.is_ok_and(|text| text.contains("Seccomp:\t1"))
    };
    while !strict() {
        std::thread::yield_now();
    }
    assert_eq!(why(running.pid()), Refusal::SeccompStrict);
    let forced = Target::probe(running.pid(), Force { seccomp: true });
    assert_eq!(forced.expect_err("not even so").why, Refusal::SeccompStrict);
    assert_eq!(running.end().1.code(), Some(7), "unharmed");
}

/// A program of 32 bits that sleeps: the smallest there is.
#[test]
fn a_32_bit_program() {
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let start = 0x0804_8000_u32;
    file.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    for word in [start + 84, 52, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    for word in [1, 0, start, start, 93, 93, 5, 4096] {
        file.extend(word.to_le_bytes());
    }
    // again: mov $29, %eax; int $0x80 (pause); jmp again
    file.extend([0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7]);
    let path = std::env::temp_dir().join(format!("trapline-32-{}", std::process::id()));
    std::fs::write(&path, file).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&path, mode).expect("executable");
    let started = Command::new(&path).spawn();
    std::fs::remove_file(&path).expect("removed");
    let Ok(mut child) = started else {
        eprintln!("SKIPPED: this kernel runs no 32-bit programs");
        return;
    };
    assert_eq!(why(child.id() as i32), Refusal::ThirtyTwoBit);
    child.kill().expect("a child");
    child.wait().expect("a child");
}

/// What root may do and others may not, seen by one who is not root.
#[test]
fn other_users_and_what_does_not_let_itself_be_traced() {
    const PROBE: &str = "TRAPLINE_TEST_PROBE";
    if let Some(pid) = std::env::var_os(PROBE) {
        let pid = pid.to_str().and_then(|pid| pid.parse().ok()).expect("a number");
        println!("why: {:?}", why(pid));
        return;
    }
    if !is_root() {
        eprintln!("SKIPPED: only root can become nobody");
        return;
    }
    let odd = program("odd", Kind::Dynamic).expect("a C compiler");
    const NOBODY: u32 = 65534;
    let probed_by_nobody = |pid: i32| {
        // What it needs of the file that runs is only to be executed.
        let own = std::fs::File::open("/proc/self/exe").expect("this test");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&own));
        let mut command = Command::new("/proc/self/exe");
        command.args(["refused::other_users_and_what_does_not_let_itself_be_traced", "--exact"]);
        command.args(["--nocapture", "--test-threads=1"]).env(PROBE, pid.to_string());
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        let output = command.output().unwrap_or_else(|error| panic!("{path}: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut roots = Running::start(&odd, &["plain"]);
    assert_eq!(roots.line(), "ready");
    let said = probed_by_nobody(roots.pid());
    assert!(said.contains("why: OtherUser { user: 0 }"), "{said}");
    assert!(Target::probe(roots.pid(), Force::default()).is_ok(), "root may");
    assert_eq!(roots.end().1.code(), Some(7));

    // In a folder that nobody can reach.
    let copy = std::env::temp_dir().join(format!("trapline-odd-{}", std::process::id()));
    std::fs::copy(&odd, &copy).expect("copied");
    let mut command = Command::new(&copy);
    command.arg("no-dump").stdin(Stdio::piped()).stdout(Stdio::piped()).uid(NOBODY).gid(NOBODY);
    let mut hidden = Running { child: command.spawn().expect("starts") };
    std::fs::remove_file(&copy).expect("removed");
    assert_eq!(hidden.line(), "ready");
    let said = probed_by_nobody(hidden.pid());
    assert!(said.contains("why: NotDumpable"), "{said}");
    assert!(Target::probe(hidden.pid(), Force::default()).is_ok(), "root may");
    assert_eq!(hidden.end().1.code(), Some(7));
}
