//! Programs that wait in system calls, or are in the middle of restartable sequences, and do not
//! notice that they are stopped.

use super::calls::{map, unmap};
use super::common::{Kind, Running, program, snapshot};
use std::time::Duration;

/// 21 kinds of system calls, each in a thread that starts others: none of them gives `EINTR`.
#[test]
fn two_hundred_rounds_over_every_kind_of_call() {
    const ROUNDS: usize = 200;
    let blocked = program("blocked", Kind::Dynamic).expect("a C compiler");
    let running = Running::start(&blocked, &[]);
    running.await_threads(23);
    let target = running.target();
    let pid = running.pid() as u64;
    for round in 0..ROUNDS {
        let given = target.trace(|tracer| {
            let mut stopped =
                if round % 3 == 0 { tracer.stop_one()? } else { tracer.stop_all()? };
            let mut remote = stopped.remote()?;
            let given = remote.call(libc::SYS_getpid, [0; 6])?;
            drop(remote);
            if round % 3 == 1 {
                // Those in vfork may not go on for a moment, and children end later than that.
                stopped.patch(&[], &[])?;
                drop(stopped);
                std::thread::sleep(Duration::from_millis(3));
            } else {
                drop(stopped);
            }
            if round % 10 == 0 {
                let mapped = map(tracer)?;
                unmap(tracer, &mapped)?;
            }
            Ok(given)
        });
        assert_eq!(given.expect("every step"), Ok(pid), "round {round}");
    }
    let (maps, _) = snapshot(running.pid());
    assert!(!maps.iter().any(|line| line.contains("trapline")), "{maps:#?}");
    let (said, status) = running.end();
    assert_eq!(said, "21 kinds\n");
    assert!(status.success());
}

#[test]
fn a_restartable_sequence_loses_nothing() {
    let sequences = program("sequences", Kind::Dynamic).expect("a C compiler");
    let running = Running::start(&sequences, &[]);
    running.await_threads(5);
    let target = running.target();
    for _ in 0..100 {
        let done = target.trace(|tracer| {
            let mut stopped = tracer.stop_all()?;
            // On a thread that is in the middle of its work, not on the one that waits.
            stopped.use_for_calls(|tid| tid != target.pid());
            stopped.remote()?.call(libc::SYS_getpid, [0; 6])
        });
        assert!(done.expect("every step").is_ok());
    }
    let (said, status) = running.end();
    if status.code() == Some(77) {
        super::common::missing("a C library that registers restartable sequences");
        return;
    }
    assert_eq!(said, "0 lost\n");
    assert!(status.success());
}

/// What arrives while threads stand is delivered when they go on, and ends their calls as ever.
#[test]
fn signals_that_arrive_meanwhile_are_delivered() {
    let odd = program("odd", Kind::Dynamic).expect("a C compiler");
    let mut running = Running::start(&odd, &["plain"]);
    assert_eq!(running.line(), "ready");
    let pid = running.pid();
    running
        .target()
        .trace(|tracer| {
            let mut stopped = tracer.stop_all()?;
            let mut remote = stopped.remote()?;
            // SAFETY: numbers only.
            let sent = unsafe { libc::kill(pid, libc::SIGTERM) };
            assert_eq!(sent, 0);
            assert!(remote.call(libc::SYS_getpid, [0; 6])?.is_ok(), "alive as long as it stands");
            Ok(())
        })
        .expect("every step");
    let status = running.child.wait().expect("a child");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGTERM));
}
