//! Programs that a process executes.

use super::common::{Kind, Running, program};
use super::launched::hook;
use inject::{Force, follow_exec};
use std::io::Write as _;
use std::time::Duration;

fn go_on(running: &mut Running) {
    running.child.stdin.as_mut().expect("piped").write_all(b"x").expect("it reads");
}

#[test]
fn an_executed_program_is_worked_on_before_it_runs() {
    let executes = program("executes", Kind::Dynamic).expect("a C compiler");
    for (how, kind) in
        [("first", Kind::Static), ("other", Kind::Static), ("other", Kind::MuslDynamic)]
    {
        let Some(work) = program("work", kind) else { continue };
        for _ in 0..10 {
            let path = work.to_str().expect("text");
            let mut running = Running::start(&executes, &[how, path, "2", "-"]);
            let tid = running.line().parse().expect("a thread's number");
            let (pid, named) = (running.pid(), work.clone());
            let follower = follow_exec(pid, tid, Force::default(), move |stopped| {
                hook(stopped, pid, &named, kind)
            });
            let follower = follower.expect("may be traced");
            go_on(&mut running);
            let hook = follower.join().expect("every step").expect("it was executed");
            let target = running.target();
            let counted = target.trace(|tracer| {
                let mut hits = 0;
                while hits == 0 {
                    hits = hook.hits(&tracer.stop_all()?);
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(hits)
            });
            assert!(counted.expect("counted") > 0);
            assert_eq!(running.end().1.code(), Some(7), "{how} {kind:?}");
        }
    }
}

#[test]
fn a_program_that_is_not_there_leaves_a_process_that_nobody_traces() {
    let executes = program("executes", Kind::Dynamic).expect("a C compiler");
    let mut running = Running::start(&executes, &["other", "/nowhere/at/all"]);
    let tid = running.line().parse().expect("a thread's number");
    let follower = follow_exec(running.pid(), tid, Force::default(), |_| Ok(()));
    let follower = follower.expect("may be traced");
    go_on(&mut running);
    assert_eq!(running.line(), "failed");
    assert_eq!(follower.join().expect("no error"), None);
    assert_eq!(running.end().1.code(), Some(3));
}

#[test]
fn a_thread_that_is_not_followed_any_more_goes_on() {
    let executes = program("executes", Kind::Dynamic).expect("a C compiler");
    let work = program("work", Kind::Static).expect("a C compiler");
    let mut running = Running::start(&executes, &["other", work.to_str().expect("text"), "2"]);
    let tid = running.line().parse().expect("a thread's number");
    let follower = follow_exec(running.pid(), tid, Force::default(), |_| Ok(()));
    let follower = follower.expect("may be traced");
    follower.cancel();
    assert_eq!(follower.join().expect("no error"), None);
    go_on(&mut running);
    assert_eq!(running.end().1.code(), Some(7), "it executes the program");
}

#[test]
fn a_thread_that_ends_executes_nothing() {
    let executes = program("executes", Kind::Dynamic).expect("a C compiler");
    let mut running = Running::start(&executes, &["other", "/bin/true"]);
    let tid = running.line().parse().expect("a thread's number");
    let follower = follow_exec(running.pid(), tid, Force::default(), |_| Ok(()));
    let follower = follower.expect("may be traced");
    assert_eq!(running.end().1.code(), Some(3));
    assert_eq!(follower.join().expect("no error"), None);
    assert!(follow_exec(i32::MAX, i32::MAX, Force::default(), |_| Ok(())).is_err());
}
