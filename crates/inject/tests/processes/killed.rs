//! The injector is killed at any moment, and the process goes on.

use super::calls::{map, unmap};
use super::common::{Hook, Kind, Running, give_image, program, snapshot};
use super::patched::unmap_when_left;
use inject::{Error, Force, Target, launch};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const VICTIM: &str = "TRAPLINE_TEST_VICTIM";
const WORK: &str = "TRAPLINE_TEST_WORK";

/// Works on a process again and again, until it is killed.
fn attack(pid: i32, work: Option<PathBuf>) -> Error {
    let mut target = Target::probe(pid, Force::default()).expect("may be worked on");
    println!("begun");
    loop {
        let round = target.trace(|tracer| {
            for _ in 0..3 {
                let mut stopped = tracer.stop_one()?;
                stopped.remote()?.call(libc::SYS_getpid, [0; 6])?.expect("a number");
            }
            let mapped = map(tracer)?;
            let function = mapped.address("image_calculate").expect("a function");
            assert_eq!(tracer.call(&mapped, function, &[0, 1, 2])?, 3);
            let Some(work) = &work else { return unmap(tracer, &mapped) };
            let hook = Hook::new(&mapped, pid, work, Kind::Dynamic);
            let installed = hook.install(&mut tracer.stop_all()?);
            match installed {
                Ok(_) => {}
                // Left by one that was killed: it leads to an image that is still there.
                Err(Error::Changed { .. }) => return unmap(tracer, &mapped),
                Err(error) => return Err(error),
            }
            hook.remove(&mut tracer.stop_all()?)?;
            unmap_when_left(tracer, &mapped)
        });
        match round {
            // A thread was still where the last one has left it.
            Ok(()) | Err(Error::Busy) => {}
            Err(error) => return error,
        }
        target = Target::probe(pid, Force::default()).expect("may be worked on");
    }
}

#[test]
fn an_injector_that_is_killed_at_any_moment_harms_nobody() {
    const ROUNDS: u64 = 150;
    if let Some(pid) = std::env::var_os(VICTIM) {
        let pid = pid.to_str().and_then(|pid| pid.parse().ok()).expect("a number");
        panic!("{}", attack(pid, std::env::var_os(WORK).map(PathBuf::from)));
    }
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let mut seed = nanoseconds as u64 | 1;
    println!("seed {seed}");
    let mut random = || {
        // xorshift64 (Marsaglia, 2003).
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let work = program("work", Kind::Dynamic).expect("a C compiler");
    let state = program("state", Kind::Dynamic).expect("a C compiler");
    let victims = [
        Running::start(&state, &[]),
        Running::start(&work, &["4", "-"]),
        Running::start(&state, &[]),
    ];
    victims[1].await_threads(4);
    let before = victims.each_ref().map(|victim| snapshot(victim.pid()).1);
    for round in 0..ROUNDS {
        let victim = &victims[(round % 3) as usize];
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["killed::an_injector_that_is_killed_at_any_moment_harms_nobody", "--exact"]);
        command.arg("--nocapture").env(VICTIM, victim.pid().to_string());
        give_image(&mut command);
        if round % 3 == 1 {
            command.env(WORK, &work);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut injector = command.spawn().expect("starts");
        let mut output = injector.stdout.take().expect("piped");
        let mut said = Vec::new();
        while !said.ends_with(b"begun\n") {
            let mut byte = [0];
            assert_eq!(output.read(&mut byte).expect("a pipe"), 1, "round {round}: it ended");
            said.push(byte[0]);
        }
        // A random moment: nothing is decided by how long this takes.
        std::thread::sleep(Duration::from_nanos(random() % 6_000_000));
        injector.kill().expect("a child");
        let output = injector.wait_with_output().expect("a child");
        let killed = std::os::unix::process::ExitStatusExt::signal(&output.status);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(killed, Some(libc::SIGKILL), "round {round}: {errors}");
        assert!(
            matches!(super::common::state(victim.pid()), 'R' | 'S'),
            "round {round}: {}",
            super::common::state(victim.pid())
        );
    }
    for (victim, before) in victims.iter().zip(before) {
        // The next one clears away what those that were killed have left, but for memory files.
        let done = victim
            .target()
            .trace(|tracer| tracer.stop_all()?.remote()?.call(libc::SYS_getpid, [0; 6]));
        assert_eq!(done.expect("every step"), Ok(victim.pid() as u64));
        let mut after = snapshot(victim.pid()).1;
        after.retain(|descriptor| !descriptor.ends_with("/memfd:trapline (deleted)"));
        assert_eq!(after, before);
    }
    for victim in [&victims[0], &victims[2]] {
        assert!(code_is_the_files(victim.pid(), &state), "its code is as it was");
    }
    for (victim, name) in victims.into_iter().zip(["state", "work", "state"]) {
        let (said, status) = victim.end();
        if name == "work" {
            assert!(said.ends_with(" calls\n") && status.code() == Some(7), "{said} {status}");
        } else {
            assert_eq!(said, "0 wrong, signals same, stack same, trap ignored\n");
            assert!(status.success());
        }
    }
}

/// Whether a program's code is what its file says.
fn code_is_the_files(pid: i32, program: &Path) -> bool {
    let (file, maps) = (std::fs::read(program).expect("ours"), snapshot(pid).0);
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("ours");
    let name = program.to_str().expect("in UTF-8");
    let mut code = maps.iter().filter(|line| line.contains(" r-xp ") && line.ends_with(name));
    code.all(|line| {
        let mut words = line.split_whitespace();
        let hex = |text: Option<&str>| u64::from_str_radix(text.expect("a number"), 16);
        let (start, end) = words.next().and_then(|r| r.split_once('-')).expect("a range");
        let [start, end] = [start, end].map(|text| hex(Some(text)).expect("a number"));
        let offset = hex(words.nth(1)).expect("a number") as usize;
        let there = &file[offset..file.len().min(offset + (end - start) as usize)];
        let mut bytes = vec![0; there.len()];
        memory.read_exact_at(&mut bytes, start).expect("mapped");
        bytes == there
    })
}

/// A program that waits for work on it to be done is killed with whoever should have done it.
#[test]
fn an_injector_that_is_killed_at_a_launch_takes_the_program_with_it() {
    const LAUNCH: &str = "TRAPLINE_TEST_LAUNCH";
    if std::env::var_os(LAUNCH).is_some() {
        let result = launch(Command::new("true"), Force::default(), |stopped| {
            println!("begun {} end", stopped.threads().next().expect("its only one"));
            // Until it is killed.
            loop {
                stopped.remote()?.call(libc::SYS_getpid, [0; 6])?.expect("a number");
            }
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok(())
        });
        panic!("{result:?}");
    }
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    let name = "killed::an_injector_that_is_killed_at_a_launch_takes_the_program_with_it";
    command.args([name, "--exact", "--nocapture"]).env(LAUNCH, "1").stdout(Stdio::piped());
    let mut injector = command.spawn().expect("starts");
    let mut output = injector.stdout.take().expect("piped");
    let mut said = String::new();
    while !said.ends_with(" end") {
        let mut byte = [0];
        assert_eq!(output.read(&mut byte).expect("a pipe"), 1, "it ended: {said}");
        said.push(char::from(byte[0]));
    }
    let pid = said.rsplit(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a number");
    injector.kill().expect("a child");
    injector.wait().expect("a child");
    // It is a child of whoever takes orphans, and may stay as an entry.
    while !matches!(super::common::state(pid), 'Z' | 'X' | '?') {
        std::thread::yield_now();
    }
}
