//! Where the kernel refuses membarrier, `light()` is a full fence and the fast ways step aside:
//! everything has to work the same. One test in a process of its own, because the answer of the
//! kernel is asked for once.
#![cfg(all(not(loom), target_arch = "x86_64"))]

use percpu::fence::{self, Mode};
use reclaim::cached::{self, CachedArc};
use reclaim::hazptr::{self, Domain, HazardPointer, Shared};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Makes membarrier fail with ENOSYS in this thread and the threads that it starts.
fn refuse_membarrier() {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_WORD, 0, 0, 0), // the system call's number
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_membarrier as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: `filter` describes the program, which the kernel copies.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) }, 0);
}

struct Checked {
    whole: AtomicBool,
    drops: Arc<AtomicUsize>,
}

impl Checked {
    fn check(&self) {
        assert!(self.whole.load(Ordering::Relaxed), "used after its end");
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        assert!(self.whole.swap(false, Ordering::Relaxed), "dropped twice");
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn everything_works_with_symmetric_fences() {
    refuse_membarrier();
    assert_eq!(fence::mode(), Mode::Symmetric);
    hazard_pointers();
    cached_references();
}

fn hazard_pointers() {
    let drops = Arc::<AtomicUsize>::default();
    let object = || Checked { whole: AtomicBool::new(true), drops: Arc::clone(&drops) };
    let cell = Shared::new(object());
    let made = AtomicUsize::new(1);
    let since = Instant::now();
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let mut kept = HazardPointer::new();
                while since.elapsed() < Duration::from_millis(700) {
                    cell.load(&mut kept).unwrap().check();
                    hazptr::scope_array(|[a, b]| {
                        let first = cell.load(a).unwrap();
                        cell.load(b).unwrap().check();
                        first.check();
                    });
                    hazptr::scope(|outer| {
                        let seen = cell.load(outer).unwrap();
                        hazptr::scope(|inner| cell.load(inner).unwrap().check());
                        seen.check();
                    });
                }
            });
        }
        s.spawn(|| {
            while since.elapsed() < Duration::from_millis(700) {
                cell.store(object());
                made.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    drop(cell);
    Domain::global().barrier();
    assert_eq!(drops.load(Ordering::SeqCst), made.load(Ordering::SeqCst));
}

fn cached_references() {
    let drops = Arc::<AtomicUsize>::default();
    let a = CachedArc::new(Checked { whole: AtomicBool::new(true), drops: Arc::clone(&drops) });
    let (touched_tx, touched_rx) = mpsc::channel();
    let (go_tx, go_rx) = mpsc::channel::<()>();
    thread::scope(|s| {
        let theirs = a.clone();
        let thread = s.spawn(move || {
            let second = theirs.clone();
            (0..1000).for_each(|_| second.clone().check());
            drop(second);
            touched_tx.send(()).unwrap();
            go_rx.recv().unwrap();
            theirs.clone().check();
        });
        touched_rx.recv().unwrap();
        assert_eq!(CachedArc::references(&a), None);
        cached::flush_all();
        assert_eq!(CachedArc::references(&a), Some(2));
        go_tx.send(()).unwrap();
        thread.join().unwrap();
    });
    CachedArc::flush(&a);
    assert_eq!(CachedArc::references(&a), Some(1));
    drop(a);
    cached::flush_thread();
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}
