//! What becomes of cached objects when the process ends: by returning from `main`, by `exit` on the
//! main thread or on another, and not by `_exit`. Its own `main`, for that is what is tested.
#![cfg_attr(loom, allow(unused, reason = "loom has no processes"))]

use std::env;
use std::process::Command;

#[cfg(not(loom))]
mod child {
    use reclaim::cached::CachedArc;
    use std::process;
    use std::sync::{Mutex, mpsc};
    use std::thread;

    struct File(&'static str);

    impl Drop for File {
        fn drop(&mut self) {
            println!("flushed {}", self.0);
        }
    }

    static LOCK: Mutex<()> = Mutex::new(());

    struct Locks;

    impl Drop for Locks {
        fn drop(&mut self) {
            drop(LOCK.lock());
        }
    }

    struct Panics;

    impl Drop for Panics {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("nobody can catch it here"));
        }
    }

    fn cache<T: Send + Sync + 'static>(value: T) {
        let object = CachedArc::new(value);
        drop(CachedArc::clone(&object));
        drop(object);
    }

    /// A thread that caches something and then does nothing. It has done so on return: two objects
    /// of one thread may want the same place, and the first would be dropped at once.
    fn idle<T: Send + Sync + 'static>(value: T) {
        let (done, wait) = mpsc::channel();
        thread::spawn(move || {
            cache(value);
            done.send(()).expect("the other side waits");
            loop {
                thread::park();
            }
        });
        wait.recv().expect("the thread lives");
    }

    pub(crate) fn run(how: &str) {
        idle(File("idle"));
        idle(Panics);
        cache(File("own"));
        match how {
            "return" => {}
            // Its drops want what the exiting thread has.
            "exit-locked" => {
                let _locked = LOCK.lock();
                cache(Locks);
                process::exit(0)
            }
            "exit" => process::exit(0),
            "exit-elsewhere" => {
                cache(File("own"));
                thread::spawn(|| process::exit(0)).join().unwrap_or(());
            }
            // SAFETY: ends the process.
            _ => unsafe { libc::_exit(0) },
        }
    }
}

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() {
    if let Some(how) = env::args().nth(1).filter(|a| a.starts_with("child:")) {
        return child::run(&how["child:".len()..]);
    }
    let ways = [
        ("return", Some(true)),
        ("exit", Some(true)),
        ("exit-elsewhere", Some(true)),
        ("_exit", Some(false)),
        // That it ends is what is asked.
        ("exit-locked", None),
    ];
    for (how, is_flushed) in ways {
        let program = env::current_exe().expect("this program");
        let output = Command::new(program).arg(format!("child:{how}")).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{how}: {:?}", output.status);
        if let Some(is_flushed) = is_flushed {
            assert_eq!(text.contains("flushed own"), is_flushed, "{how}: {text:?}");
        }
        println!("{how}: ok");
    }
}
