//! Jumps that trap in their middle.

use patch::{TRAPS, jump, trap_safe, trap_safe_targets};

const SITE: u64 = 0x5555_0000_1000;

#[test]
fn targets_are_those_that_are_safe() {
    let sets: [&[u8]; 8] = [&[], &[1], &[2], &[3], &[4], &[1, 4], &[2, 3, 4], &[1, 2, 3, 4]];
    for boundaries in sets {
        // Windows of every size around the site, the ends of the reach among them.
        for (start, len) in [
            (SITE - 70_000, 140_000),
            (SITE + (6 << 24), 70_000),
            (SITE + (0x06_0606 << 8), 600),
            (SITE + 5 + 0x7fff_ff00, 600),
            (SITE + 5 - 0x8000_0100, 600),
        ] {
            let mut runs = trap_safe_targets(SITE, boundaries, start..start + len);
            let mut run = runs.next();
            for target in start..start + len {
                if run.as_ref().is_some_and(|r| r.end <= target) {
                    run = runs.next();
                }
                let found = run.as_ref().is_some_and(|r| r.contains(&target));
                assert_eq!(found, trap_safe(SITE, boundaries, target), "{boundaries:?} {target:x}");
            }
        }
        // Somewhere in reach there is always one.
        let some = trap_safe_targets(SITE, boundaries, 0..u64::MAX).next().expect("a target");
        let bytes = jump(SITE, some.start).expect("in reach");
        assert!(boundaries.iter().all(|&b| TRAPS.contains(&bytes[b as usize])));
        let all: u64 = trap_safe_targets(SITE, boundaries, 0..u64::MAX)
            .take(1 << 18)
            .map(|r| r.end - r.start)
            .sum();
        let expected = 18u64.pow(boundaries.len() as u32) << (8 * (4 - boundaries.len()));
        assert!(all == expected || all >= 1 << 18, "{boundaries:?}: {all} of {expected}");
    }
}

/// Every byte of the list traps, whatever follows it: run in children, which the signal kills.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_bytes_trap() {
    // SAFETY: a new anonymous mapping.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    for byte in TRAPS {
        for tail in [0x00u8, 0x90, 0xc3, 0xcc, 0xff, 0x48, 0x05] {
            let mut code = [tail; 15];
            code[0] = byte;
            // SAFETY: fifteen bytes in the page above, which no thread runs now.
            unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), page.cast(), code.len()) };
            // SAFETY: the child calls only what is allowed after fork in a threaded process.
            let child = unsafe { libc::fork() };
            if child == 0 {
                for signal in [libc::SIGILL, libc::SIGTRAP] {
                    // SAFETY: the default disposition.
                    unsafe { libc::signal(signal, libc::SIG_DFL) };
                }
                // No core files.
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                // SAFETY: a valid limit.
                unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
                // SAFETY: the page holds code that traps at once; if it does not, the child alone
                // suffers.
                let run: extern "C" fn() = unsafe { std::mem::transmute(page) };
                run();
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: waits for the child made above.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            let expected = if byte == 0xcc { libc::SIGTRAP } else { libc::SIGILL };
            assert!(
                libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == expected,
                "{byte:02x} {tail:02x}: {status:x}"
            );
        }
    }
    // SAFETY: the mapping made above, in use by nobody.
    unsafe { libc::munmap(page, 4096) };
}
