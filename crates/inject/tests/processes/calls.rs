//! Functions of an image, called in programs of every kind that run.

use super::common::{Kind, Running, image, image_file, program, snapshot};
use inject::{Error, Force, Found, Image, Mapped, Target, Tracer};
use std::time::Duration;

fn calculate(tracer: &mut Tracer, mapped: &Mapped) -> Result<[u64; 2], Error> {
    let function = mapped.address("image_calculate").expect("a function");
    let sum = tracer.call(mapped, function, &[0, 40, 2])?;
    let product = tracer.call(mapped, function, &[1, 6, 7])?;
    Ok([sum, product])
}

fn assert_endless_calls_end(tracer: &mut Tracer, mapped: &Mapped) {
    let endless = mapped.address("image_endless").expect("a function");
    // Often: one that runs may stop sooner or later after it was asked to.
    for limit in 0..20 {
        tracer.limit_calls(Duration::from_millis(limit));
        let given = tracer.call(mapped, endless, &[]);
        assert!(matches!(given, Err(Error::TimedOut)), "{given:?}");
    }
    tracer.limit_calls(Duration::from_secs(60));
}

pub(crate) fn map(tracer: &mut Tracer) -> Result<Mapped, Error> {
    tracer.stop_all()?.remote()?.map(&image())
}

pub(crate) fn unmap(tracer: &mut Tracer, mapped: &Mapped) -> Result<(), Error> {
    tracer.stop_all()?.remote()?.unmap(mapped)
}

#[test]
fn every_kind_of_program_calculates_and_keeps_nothing() {
    for kind in Kind::ALL {
        let Some(work) = program("work", kind) else { continue };
        let running = Running::start(&work, &["3", "-"]);
        running.await_threads(3);
        // A runtime may make threads and mappings of its own; C programs have what they have.
        let before = (kind != Kind::Go).then(|| snapshot(running.pid()));
        let results = running.target().trace(|tracer| {
            let mapped = map(tracer)?;
            let results = calculate(tracer, &mapped)?;
            let calls = mapped.address("image_calls").expect("a word");
            let stopped = tracer.stop_all()?;
            let mut word = [0; 8];
            stopped.read(calls, &mut word)?;
            drop(stopped);
            unmap(tracer, &mapped)?;
            Ok((results, u64::from_ne_bytes(word)))
        });
        assert_eq!(results.expect("every step"), ([42, 42], 2), "{kind:?}");
        if let Some(before) = before {
            assert_eq!(snapshot(running.pid()), before, "{kind:?}");
        }
        let (said, status) = running.end();
        assert!(
            said.ends_with(" calls\n") && status.code() == Some(7),
            "{kind:?}: {said} {status}"
        );
    }
}

#[test]
fn nothing_can_be_written_and_executed_and_all_is_below_the_program() {
    for kind in [Kind::Dynamic, Kind::Static, Kind::StaticPie] {
        let Some(work) = program("work", kind) else { continue };
        let running = Running::start(&work, &["1", "-"]);
        running.await_threads(1);
        let mapped = running.target().trace(map).expect("mapped");
        let (maps, _) = snapshot(running.pid());
        let inside = |line: &&String| {
            let start = line.split('-').next().and_then(|at| u64::from_str_radix(at, 16).ok());
            start.is_some_and(|start| mapped.range().contains(&start))
        };
        let ours: Vec<_> = maps.iter().filter(inside).collect();
        assert!(ours.iter().any(|line| line.contains(" r-xs ")), "code: {ours:#?}");
        assert!(ours.iter().any(|line| line.contains(" rw-p ")), "data: {ours:#?}");
        assert!(!ours.iter().any(|line| line.contains("wx")), "{ours:#?}");
        let program = maps.iter().find(|line| line.ends_with(work.to_str().expect("text")));
        let start =
            u64::from_str_radix(program.expect("its file").split('-').next().expect("-"), 16);
        assert!(mapped.range().end <= start.expect("an address"), "{kind:?}: {maps:#?}");
        assert_eq!(running.end().1.code(), Some(7));
    }
}

#[test]
fn a_fault_ends_the_call_and_not_the_program() {
    let work = program("work", Kind::Dynamic).expect("a C compiler");
    let running = Running::start(&work, &["2", "-"]);
    running.await_threads(2);
    running
        .target()
        .trace(|tracer| {
            let mapped = map(tracer)?;
            let fault = mapped.address("image_fault").expect("a function");
            for at in [8, 0xffff_8000_0000_0000] {
                let given = tracer.call(&mapped, fault, &[at]);
                assert!(
                    matches!(given, Err(Error::Fault { signal: libc::SIGSEGV, address })
                        if mapped.range().contains(&address)),
                    "{given:?}"
                );
            }
            assert_endless_calls_end(tracer, &mapped);
            assert_eq!(calculate(tracer, &mapped)?, [42, 42], "as before");
            unmap(tracer, &mapped)
        })
        .expect("every step");
    running.await_threads(2);
    assert_eq!(running.end().1.code(), Some(7));
}

/// Vector registers, blocked signals, the signal stack and what SIGTRAP does, over hundreds of
/// calls made in the middle of everything: on a thread of their own, and (where a filter refuses
/// that) on the program's.
#[test]
fn the_state_of_a_thread_is_kept() {
    let state = program("state", Kind::Dynamic).expect("a C compiler");
    for arguments in [&[][..], &["no-clone"]] {
        let running = Running::start(&state, arguments);
        // Its output ends when it does, so there is nothing that says when the filter is there: the
        // first calls may find none, and the others do.
        let target = Target::probe(running.pid(), Force { seccomp: true }).expect("forced");
        target
            .trace(|tracer| {
                let mapped = map(tracer)?;
                let busy = mapped.address("image_busy").expect("a function");
                for _ in 0..200 {
                    let pid = tracer.target().pid() as u64;
                    assert_eq!(tracer.call(&mapped, busy, &[3])?, 3 * pid);
                }
                unmap(tracer, &mapped)
            })
            .expect("every step");
        let (said, status) = running.end();
        assert_eq!(said, "0 wrong, signals same, stack same, trap ignored\n", "{arguments:?}");
        assert!(status.success(), "{arguments:?}");
    }
}

#[test]
fn a_file_of_ours_is_memory_of_both() {
    use std::os::fd::FromRawFd as _;
    use std::os::unix::fs::FileExt as _;
    let work = program("work", Kind::Static).expect("a C compiler");
    let running = Running::start(&work, &["2", "-"]);
    running.await_threads(2);
    let before = snapshot(running.pid());
    // SAFETY: a name that ends in a zero byte.
    let made = unsafe { libc::memfd_create(c"shared".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(made >= 0);
    // SAFETY: just opened.
    let file = unsafe { std::fs::File::from_raw_fd(made) };
    file.set_len(8192).expect("a memory file");
    file.write_all_at(b"from outside", 4096).expect("written");
    running
        .target()
        .trace(|tracer| {
            let mut stopped = tracer.stop_all()?;
            let mut remote = stopped.remote()?;
            let writable = remote.map_shared(&file, 8192, true)?;
            let readable = remote.map_shared(&file, 8192, false)?;
            drop(remote);
            let mut found = [0; 12];
            stopped.read(readable + 4096, &mut found)?;
            assert_eq!(&found, b"from outside");
            stopped.write(writable, b"from inside")?;
            let mut remote = stopped.remote()?;
            remote.unmap_shared(writable, 8192)?;
            remote.unmap_shared(readable, 8192)
        })
        .expect("every step");
    let mut found = [0; 11];
    file.read_exact_at(&mut found, 0).expect("read");
    assert_eq!(&found, b"from inside");
    assert_eq!(snapshot(running.pid()), before, "nothing is left");
    assert_eq!(running.end().1.code(), Some(7));
}

#[test]
fn where_no_thread_can_be_started_a_function_runs_on_one_that_is_there() {
    let odd = program("odd", Kind::Dynamic).expect("a C compiler");
    let mut running = Running::start(&odd, &["no-clone"]);
    assert_eq!(running.line(), "ready");
    let target = Target::probe(running.pid(), Force { seccomp: true }).expect("forced");
    target
        .trace(|tracer| {
            let mapped = map(tracer)?;
            assert_eq!(calculate(tracer, &mapped)?, [42, 42]);
            let busy = mapped.address("image_busy").expect("a function");
            assert_eq!(tracer.call(&mapped, busy, &[2])?, 2 * tracer.target().pid() as u64);
            let fault = mapped.address("image_fault").expect("a function");
            assert!(matches!(tracer.call(&mapped, fault, &[8]), Err(Error::Fault { .. })));
            assert_endless_calls_end(tracer, &mapped);
            unmap(tracer, &mapped)
        })
        .expect("every step");
    assert_eq!(running.end().1.code(), Some(7));
}

/// An image that an earlier tracer has left is found, used and taken out, by its code alone.
#[test]
fn an_image_that_is_there_is_found_and_used() {
    for kind in Kind::ALL {
        let Some(work) = program("work", kind) else { continue };
        let running = Running::start(&work, &["3", "-"]);
        running.await_threads(3);
        let base = running.target().trace(|tracer| {
            assert!(matches!(tracer.find(&image())?, Found::None), "{kind:?}");
            Ok(map(tracer)?.base())
        });
        let base = base.expect("mapped");
        // The same file with one byte of code changed is another image.
        let mut other = image_file().to_vec();
        let code = calculate_in(&other);
        other[code] ^= 1;
        let other = Image::parse(&other).expect("an image still");
        let found = running.target().trace(|tracer| {
            assert!(matches!(tracer.find(&other)?, Found::Other(at) if at == base), "{kind:?}");
            let Found::Same(mapped) = tracer.find(&image())? else { return Ok(None) };
            let results = calculate(tracer, &mapped)?;
            unmap(tracer, &mapped)?;
            assert!(matches!(tracer.find(&image())?, Found::None), "{kind:?}");
            Ok(Some((mapped.base(), results)))
        });
        assert_eq!(found.expect("every step"), Some((base, [42, 42])), "{kind:?}");
    }
}

/// Where the file has the first byte of `image_calculate`.
fn calculate_in(file: &[u8]) -> usize {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
    let parsed = object::File::parse(file).expect("ELF");
    let symbol = parsed.symbols().find(|s| s.name() == Ok("image_calculate")).expect("a symbol");
    let section = parsed.section_by_index(symbol.section_index().expect("code")).expect("code");
    let (offset, _) = section.file_range().expect("in the file");
    usize::try_from(offset + symbol.address() - section.address()).expect("small")
}

/// A descriptor that the process gets leads to the file, and is gone again.
#[test]
fn a_file_is_sent_and_closed() {
    let Some(work) = program("work", Kind::Static) else { return };
    let running = Running::start(&work, &["2", "-"]);
    running.await_threads(2);
    let file = tempfile();
    let number = |file: &std::fs::File| {
        use std::os::unix::fs::MetadataExt as _;
        let file = file.metadata().expect("open");
        (file.dev(), file.ino())
    };
    let before = snapshot(running.pid());
    let there = running.target().trace(|tracer| {
        let mut stopped = tracer.stop_all()?;
        let mut remote = stopped.remote()?;
        let descriptor = remote.send(&file)?;
        let path = format!("/proc/{}/fd/{descriptor}", running.pid());
        let there = std::fs::File::open(path).expect("a descriptor");
        remote.close(descriptor)?;
        assert!(matches!(remote.close(descriptor), Err(Error::Remote { call: "close", .. })));
        Ok(number(&there))
    });
    assert_eq!(there.expect("sent"), number(&file));
    assert_eq!(snapshot(running.pid()), before);
}

/// A file without a name.
fn tempfile() -> std::fs::File {
    let path = std::env::temp_dir().join(format!("trapline-sent-{}", std::process::id()));
    let file = std::fs::File::create_new(&path).expect("a file");
    std::fs::remove_file(&path).expect("just made");
    file
}
