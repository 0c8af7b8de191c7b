//! Processes in unusual states.

use super::calls::{map, unmap};
use super::common::{Kind, Running, image, program};
use inject::{Error, Force, Found, Refusal, Target, Tracer};
use std::io::Write as _;

fn odd(state: &str) -> Running {
    let odd = program("odd", Kind::Dynamic).expect("a C compiler");
    let mut running = Running::start(&odd, &[state]);
    assert_eq!(running.line(), "ready");
    running
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: numbers only.
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0);
}

/// Maps, calls, unmaps.
fn all_steps(tracer: &mut Tracer) -> Result<u64, Error> {
    let mapped = map(tracer)?;
    let function = mapped.address("image_calculate").expect("a function");
    let result = tracer.call(&mapped, function, &[0, 40, 2])?;
    unmap(tracer, &mapped)?;
    Ok(result)
}

#[test]
fn the_only_thread_is_all_threads() {
    let running = odd("plain");
    let all = running.target().trace(|tracer| {
        let mut stopped = tracer.stop_one()?;
        stopped.patch(&[], &[])?;
        stopped.remote()?.call(libc::SYS_getpid, [0; 6])?.expect("a number");
        Ok(stopped.is_all())
    });
    assert!(all.expect("every step"));
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn a_stopped_process_stays_stopped() {
    let running = odd("plain");
    let pid = running.pid();
    signal(pid, libc::SIGSTOP);
    running.await_state(&['T']);
    let target = running.target();
    assert!(target.is_stopped());
    assert_eq!(target.trace(all_steps).expect("every step"), 42);
    running.await_state(&['T']);
    assert!(running.target().is_stopped());
    signal(pid, libc::SIGCONT);
    running.await_state(&['S', 'R']);
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn a_process_that_is_stopped_meanwhile_is_stopped_afterwards() {
    let running = odd("plain");
    let pid = running.pid();
    let stopped = running.target().trace(|tracer| {
        let mut stopped = tracer.stop_all()?;
        let mut remote = stopped.remote()?;
        signal(pid, libc::SIGSTOP);
        remote.call(libc::SYS_getpid, [0; 6])
    });
    assert_eq!(stopped.expect("every step"), Ok(pid as u64));
    running.await_state(&['T']);
    signal(pid, libc::SIGCONT);
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn a_parent_in_vfork_is_not_waited_for() {
    let running = odd("vfork");
    running.await_state(&['D']);
    let waiting = running.target().trace(|tracer| {
        let busy = tracer.stop_one().map(drop);
        assert!(matches!(busy, Err(Error::Busy)), "its only thread: {busy:?}");
        let stopped = tracer.stop_all().map(drop);
        assert!(matches!(stopped, Err(Error::Busy)), "{stopped:?}");
        Ok(tracer.target().pid())
    });
    assert_eq!(waiting.expect("no other error"), running.pid());
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn beside_a_thread_in_vfork_another_is_used() {
    let running = odd("vfork-beside");
    running.await_state(&['D']);
    running.await_threads(2);
    let target = running.target();
    let result = target.trace(|tracer| {
        let stopped = tracer.stop_all()?;
        assert_eq!((stopped.threads().count(), stopped.waiting()), (1, vec![target.pid()]));
        assert!(stopped.is_all());
        drop(stopped);
        // From here on the one in vfork is traced, too, and must be let go at the end.
        let mut stopped = tracer.stop_all()?;
        assert_eq!(stopped.patch(&[], &[])?, 0);
        assert_eq!((stopped.threads().count(), stopped.waiting()), (1, vec![target.pid()]));
        drop(stopped);
        all_steps(tracer)
    });
    assert_eq!(result.expect("every step"), 42);
    let next = Target::probe(running.pid(), Force::default());
    assert!(next.is_ok(), "nobody traces it: {next:?}");
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn a_process_whose_first_thread_has_ended() {
    let running = odd("zombie-leader");
    assert_eq!(running.target().trace(all_steps).expect("every step"), 42);
    assert_eq!(running.end().1.code(), Some(7));
}

/// Whichever of its threads is looked at ends soon, and the process goes on.
#[test]
fn a_process_all_of_whose_threads_come_and_go() {
    let mut running = odd("relay");
    let base = running.target().trace(map).expect("mapped").base();
    running.child.stdin.as_mut().expect("piped").write_all(b"\n").expect("a pipe");
    running.await_state(&['Z']);
    let image = image();
    for round in 0..300 {
        let found = running.target().trace(|tracer| tracer.find(&image));
        let same = matches!(&found, Ok(Found::Same(mapped)) if mapped.base() == base);
        assert!(same, "{round}: {found:?}");
    }
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn memory_that_must_not_become_executable() {
    let odd = program("odd", Kind::Dynamic).expect("a C compiler");
    let mut running = Running::start(&odd, &["mdwe"]);
    if running.line() != "ready" {
        eprintln!("SKIPPED: this kernel has no PR_SET_MDWE");
        return;
    }
    assert_eq!(running.target().trace(all_steps).expect("every step"), 42);
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn one_tracer_at_a_time_and_the_second_is_told_of_the_first() {
    let running = odd("plain");
    let target = running.target();
    let second = target.trace(|tracer| {
        let stopped = tracer.stop_all()?;
        let refused = Target::probe(target.pid(), Force::default()).expect_err("traced");
        let Refusal::Traced { name, .. } = &refused.why else { panic!("{refused}") };
        assert!(!name.is_empty() && refused.to_string().contains(name), "{refused}");
        let second = target.trace(|tracer| tracer.stop_all().map(drop));
        drop(stopped);
        Ok(second)
    });
    assert!(matches!(second, Ok(Err(Error::Refused(_)))), "{second:?}");
    assert_eq!(target.trace(all_steps).expect("nobody else now"), 42);
    assert_eq!(running.end().1.code(), Some(7));
}

/// A filter that a thread has got since: another thread makes the calls, and none if there is none.
#[test]
fn a_filter_that_comes_later_does_not_kill() {
    let mut running = odd("kills-later");
    running.await_threads(2);
    let target = running.target();
    let own = running.pid();
    let call = |tracer: &mut Tracer| {
        let pid = tracer.stop_one()?.remote()?.call(libc::SYS_getpid, [0; 6])?;
        Ok((pid, tracer.stop_all()?.remote()?.call(libc::SYS_getpid, [0; 6])?))
    };
    assert_eq!(target.trace(call).expect("every step"), (Ok(own as u64), Ok(own as u64)));
    running.child.stdin.as_mut().expect("piped").write_all(b"f").expect("it reads");
    assert_eq!(running.line(), "ready");
    assert_eq!(target.trace(call).expect("the other one"), (Ok(own as u64), Ok(own as u64)));
    let only = target.trace(|tracer| {
        let mut stopped = tracer.stop_all()?;
        stopped.use_for_calls(|tid| tid == own);
        stopped.patch(&[], &[])?;
        stopped.remote().map(drop)
    });
    assert!(
        matches!(&only, Err(Error::Refused(refused)) if refused.why == Refusal::Seccomp),
        "{only:?}"
    );
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn what_a_filter_refuses_is_an_error_and_nothing_else() {
    for state in ["no-memfd", "trap-memfd"] {
        let running = odd(state);
        let refused = Target::probe(running.pid(), Force::default()).expect_err("filters");
        assert_eq!(refused.why, Refusal::Seccomp);
        let target = Target::probe(running.pid(), Force { seccomp: true }).expect("forced");
        let error = target.trace(all_steps).expect_err("refused");
        assert!(matches!(error, Error::Remote { call: "memfd_create", .. }), "{state}: {error}");
        assert_eq!(running.end().1.code(), Some(7), "{state}");
    }
}

#[test]
fn a_panic_in_the_middle_leaves_the_process_as_it_was() {
    let running = odd("plain");
    let target = running.target();
    let panic = std::panic::catch_unwind(|| {
        let _ = target.trace(|tracer| -> Result<(), Error> {
            let mut stopped = tracer.stop_all()?;
            let mut remote = stopped.remote()?;
            assert!(remote.call(libc::SYS_getpid, [0; 6])?.is_err(), "this is what panics");
            Ok(())
        });
    });
    assert!(panic.is_err());
    assert_eq!(target.trace(all_steps).expect("as if nothing had been"), 42);
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn a_process_that_is_killed_in_the_middle_is_gone() {
    let mut running = odd("plain");
    let pid = running.pid();
    let error = running.target().trace(|tracer| {
        let mut stopped = tracer.stop_all()?;
        let mut remote = stopped.remote()?;
        signal(pid, libc::SIGKILL);
        // It ends now, or at the first step after this one.
        loop {
            if let Err(errno) = remote.call(libc::SYS_getpid, [0; 6])? {
                return Ok(errno);
            }
        }
    });
    assert!(matches!(error, Err(Error::Gone)), "{error:?}");
    let status = running.child.wait().expect("its parent is told");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
}

/// Whoever is about to trace a process that executes a program waits for that, and the process for
/// its other threads to be reaped by whoever traces them.
#[test]
fn a_process_that_executes_meanwhile_goes_on() {
    let again = program("again", Kind::Dynamic).expect("a C compiler");
    let mut running = Running::start(&again, &["300"]);
    let mut rounds = 0;
    while running.child.try_wait().expect("a child").is_none() {
        let Ok(target) = Target::probe(running.pid(), Force::default()) else { continue };
        // Any error may be: its threads end, and so does its memory.
        let _ = target.trace(|tracer| tracer.stop_all().map(drop));
        rounds += 1;
    }
    assert!(rounds > 0);
    assert_eq!(running.child.wait().expect("a child").code(), Some(7));
}
