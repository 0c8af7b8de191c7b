//! Threads are in signal handlers, and come back into a function whose first bytes were replaced
//! meanwhile, or put back.

use super::calls::{map, unmap};
use super::common::{Hook, Kind, Running, program};
use inject::{Error, Mapped, Tracer};
use std::io::Write as _;

const THREADS: usize = 8;

pub(crate) fn hook(mapped: &Mapped, tracer: &Tracer, kind: Kind) -> Hook {
    // `mov %rdi, %rax; imul (%rsi), %rax`, whose second one faults.
    let bytes = [0x48, 0x89, 0xf8, 0x48, 0x0f, 0xaf, 0x06];
    let program = program("interrupted", kind).expect("it runs");
    Hook::of(mapped, tracer.target().pid(), &program, "work", &bytes, &[0, 3])
}

/// Lets all handlers return, and all threads come to the next one.
pub(crate) fn go_on(running: &mut Running) {
    running.child.stdin.as_mut().expect("piped").write_all(b"r").expect("it reads");
    assert_eq!(running.line(), "waiting");
}

#[test]
fn handlers_return_to_the_copies_and_to_the_original() {
    let c = [Kind::Dynamic, Kind::Static, Kind::StaticPie, Kind::MuslDynamic, Kind::MuslStatic];
    for kind in c {
        let Some(interrupted) = program("interrupted", kind) else { continue };
        let mut running = Running::start(&interrupted, &[&THREADS.to_string()]);
        assert_eq!(running.line(), "waiting", "{kind:?}");
        let target = running.target();
        // All threads are in the window: they go on in the copies, and then through the jump.
        let mapped = target.trace(|tracer| {
            let mapped = map(tracer)?;
            let moved = hook(&mapped, tracer, kind).install(&mut tracer.stop_all()?)?;
            assert_eq!(moved, THREADS, "{kind:?}");
            Ok(mapped)
        });
        let mapped = mapped.unwrap_or_else(|why| panic!("{kind:?}: {why}"));
        go_on(&mut running);
        // All are in the copies, and come back to them when nothing leads there any more.
        let hits = target.trace(|tracer| {
            let hook = hook(&mapped, tracer, kind);
            let hits = hook.hits(&tracer.stop_all()?);
            assert_eq!(hook.remove(&mut tracer.stop_all()?)?, 0, "{kind:?}");
            let unmapped = unmap(tracer, &mapped);
            assert!(matches!(unmapped, Err(Error::Standing { .. })), "{kind:?}: {unmapped:?}");
            Ok(hits)
        });
        assert_eq!(hits.expect("every step"), THREADS as u64, "{kind:?}");
        go_on(&mut running);
        target.trace(|tracer| unmap(tracer, &mapped)).expect("nothing leads there");
        go_on(&mut running);
        let (said, status) = running.end();
        assert_eq!(said, format!("{} calls\n", 4 * THREADS), "{kind:?}: {status}");
        assert_eq!(status.code(), Some(7), "{kind:?}");
    }
}
