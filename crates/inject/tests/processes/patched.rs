//! A function's first bytes are replaced and put back while threads run through it all the time.

use super::calls::{map, unmap};
use super::common::{Hook, Kind, Running, program, snapshot};
use inject::{Error, Mapped, Patch, Tracer};
use std::slice::from_ref;
use std::time::Duration;

/// Takes the image out once no thread stands in it: they are all through it soon.
pub(crate) fn unmap_when_left(tracer: &mut Tracer, mapped: &Mapped) -> Result<(), Error> {
    loop {
        match unmap(tracer, mapped) {
            Err(Error::Standing { .. }) => std::thread::sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
}

#[test]
fn every_kind_of_program_is_counted_while_it_runs() {
    const THREADS: usize = 4;
    for kind in Kind::ALL {
        let Some(work) = program("work", kind) else { continue };
        let running = Running::start(&work, &["4", "-"]);
        running.await_threads(THREADS);
        let before = (kind != Kind::Go).then(|| snapshot(running.pid()));
        let hits = running.target().trace(|tracer| {
            let mapped = map(tracer)?;
            let hook = Hook::new(&mapped, tracer.target().pid(), &work, kind);
            let (mut moved, mut hits) = (0, 0);
            for round in 0..50 {
                let mut stopped = tracer.stop_all()?;
                moved += hook.install(&mut stopped)?;
                drop(stopped);
                // Until it is called: of Go's threads, not all are always at work, and those that
                // are get on only while they do not stand.
                while hits == 0 || round == 0 && hits < 1000 {
                    hits = hook.hits(&tracer.stop_one()?);
                    std::thread::sleep(Duration::from_millis(1));
                }
                let mut stopped = tracer.stop_all()?;
                hook.remove(&mut stopped)?;
            }
            let hits = hook.hits(&tracer.stop_all()?);
            unmap_when_left(tracer, &mapped)?;
            eprintln!("{kind:?}: {hits} hits, {moved} threads moved");
            Ok(hits)
        });
        let hits = hits.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        if let Some(before) = before {
            assert_eq!(snapshot(running.pid()), before, "{kind:?}");
        }
        let (said, status) = running.end();
        let calls = said.strip_suffix(" calls\n").and_then(|n| n.parse::<u64>().ok());
        assert!(
            calls.is_some_and(|calls| (1000..=calls).contains(&hits)),
            "{kind:?}: {hits} hits, {said:?}, {status}"
        );
        assert_eq!(status.code(), Some(7), "{kind:?}");
    }
}

#[test]
fn all_or_none_and_only_what_is_expected() {
    let work = program("work", Kind::Dynamic).expect("a C compiler");
    let running = Running::start(&work, &["2", "-"]);
    running.await_threads(2);
    running
        .target()
        .trace(|tracer| {
            let mapped = map(tracer)?;
            let hook = Hook::new(&mapped, tracer.target().pid(), &work, Kind::Dynamic);
            let good = hook.patch.clone();
            let at = good.address;
            let other = Patch { address: at + 3, old: vec![0], new: vec![0x90] };
            let nowhere = Patch { address: 16, old: vec![0], new: vec![0] };
            let uneven = Patch { new: vec![0], ..good.clone() };
            let mut stopped = tracer.stop_all()?;
            for (patches, wrong) in [
                ([good.clone(), other], at + 3),
                ([good.clone(), nowhere], 16),
                ([good.clone(), uneven], at),
            ] {
                let error = stopped.patch(&patches, from_ref(&hook.window)).expect_err("refused");
                assert!(
                    matches!(error, Error::Changed { address } if address == wrong),
                    "{error:?}"
                );
                let mut found = [0; 5];
                stopped.read(at, &mut found)?;
                assert_eq!(found[..], good.old, "nothing is written");
            }
            drop(stopped);
            let error = tracer.stop_one()?.patch(&[good], &[]).expect_err("threads run");
            assert!(matches!(error, Error::Busy), "{error:?}");
            assert!(mapped.write_code(mapped.base(), &[0]).is_err(), "no code");
            assert!(mapped.write_code(at, &[0]).is_err(), "not the image's");
            unmap(tracer, &mapped)
        })
        .expect("every step");
    assert_eq!(running.end().1.code(), Some(7));
}
