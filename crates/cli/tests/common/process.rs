//! Running programs: with a timeout against hangs only, all output caught, nothing left behind.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A hang is one after this long. No verdict depends on it: everything here takes seconds even on a
/// busy machine.
const HANG: Duration = Duration::from_secs(480);

/// What became of a program.
pub(crate) struct Finished {
    /// Its exit code, or 128 + signal.
    pub(crate) code: i32,
    /// The signal that killed it.
    pub(crate) signal: Option<i32>,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

/// The command line tool under test.
///
/// With `WAY=image` in the tests' environment, it starts programs that way.
pub(crate) fn trapline() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_trapline")))
}

/// Whether programs are started with the image in them.
pub(crate) fn by_image() -> bool {
    std::env::var_os("WAY").is_some_and(|way| way == "image")
}

/// A program in the environment that all tests use: none of cargo's library paths, nothing of ours
/// but `WAY`'s.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
    clean(Command::new(path))
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("TRAPLINE")
            || name_text.starts_with("LD_")
            || name_text.starts_with("CARGO")
        {
            command.env_remove(&name);
        }
    }
    command.env("LC_ALL", "C").env("RUST_BACKTRACE", "0");
    command.envs(by_image().then_some(("TRAPLINE_AGENT", "image")));
    command
}

/// A child with its process group, which does not outlive this value or a hang.
pub(crate) struct Running {
    /// The child itself, with pipes for all streams.
    pub(crate) child: Child,
    what: String,
    end_of_watch: mpsc::Sender<()>,
    watchdog: Option<thread::JoinHandle<bool>>,
}

impl Running {
    /// The child's process id, which is its group's.
    pub(crate) fn id(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether it has hung and was killed.
    fn hung(&mut self) -> bool {
        let _ = self.end_of_watch.send(());
        self.watchdog
            .take()
            .is_some_and(|watchdog| watchdog.join().expect("the watchdog does not panic"))
    }

    /// Feeds and drains the child until it has ended; kills what is left of its process group.
    ///
    /// # Panics
    ///
    /// If it hangs.
    pub(crate) fn finish(mut self, input: &[u8]) -> Finished {
        let mut stdin = self.child.stdin.take().expect("piped");
        let input = input.to_owned();
        let feeder = thread::spawn(move || {
            // A program that does not read its input closes the pipe: that is its business.
            let _ = stdin.write_all(&input);
        });
        let stdout = drain(self.child.stdout.take().expect("piped"));
        let stderr = drain(self.child.stderr.take().expect("piped"));
        let status = self.child.wait().expect("the child is ours");
        // Whatever the program left in its process group would keep the pipes open.
        let (stdout, stderr) = collect(&stdout, &stderr).unwrap_or_else(|| {
            kill_group(self.id());
            collect(&stdout, &stderr).unwrap_or_else(|| {
                panic!("{}: something outside its process group keeps its output open", self.what)
            })
        });
        kill_group(self.id());
        let _ = feeder.join();
        assert!(
            !self.hung(),
            "{}: hangs\n--- its output\n{stdout}\n--- its errors\n{stderr}",
            self.what
        );
        let signal = status.signal();
        Finished {
            code: status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0)),
            signal,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill_group(self.id());
        let _ = self.child.wait();
        let _ = self.hung();
    }
}

/// Runs `command` with `input` on its standard input until it has ended and its outputs are closed.
///
/// # Panics
///
/// If it cannot be started or hangs.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Finished {
    start(command).finish(input)
}

/// Starts `command` in a process group of its own with pipes for all streams.
pub(crate) fn start(command: &mut Command) -> Running {
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    heed_interrupts(command);
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let group = child.id().cast_signed();
    let (end_of_watch, ended) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let hung = ended.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout);
        if hung {
            kill_group(group);
        }
        hung
    });
    Running { child, what: format!("{command:?}"), end_of_watch, watchdog: Some(watchdog) }
}

/// Lets ^C and the like have their effect on the child, also where the tests were started in the
/// background of a shell, which has them ignored.
#[allow(unsafe_code)]
fn heed_interrupts(command: &mut Command) {
    let heed = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: sets a default.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(heed) };
}

fn collect(
    stdout: &mpsc::Receiver<String>,
    stderr: &mpsc::Receiver<String>,
) -> Option<(String, String)> {
    let patience = Duration::from_secs(10);
    // An answer that was taken must not be lost when the other one is late: the readers answer
    // again and again.
    Some((stdout.recv_timeout(patience).ok()?, stderr.recv_timeout(patience).ok()?))
}

/// Reads to the end in a thread; the receiver gets the text as often as it asks.
fn drain(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::sync_channel(0);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        while send.send(text.clone()).is_ok() {}
    });
    receive
}

/// Kills all that is left of a process group that this test started.
pub(crate) fn kill_group(group: i32) {
    assert!(group > 1, "a group of one of our children");
    send_signal(-group, libc::SIGKILL);
}

/// Sends `signal` to a process of ours, or with a negative number to its group.
#[allow(unsafe_code)]
pub(crate) fn send_signal(process: i32, signal: i32) {
    // SAFETY: kill takes two integers and touches no memory.
    unsafe { libc::kill(process, signal) };
}

/// Puts what was built where it is found in a mount namespace in which /tmp is another one: the
/// project itself may lie there. A shell command for the namespace, before all others.
pub(crate) fn bind_built() -> String {
    format!("mount --bind '{}' /mnt", built().display())
}

/// Where a program that was built is after [`bind_built`].
pub(crate) fn bound(program: &Path) -> PathBuf {
    Path::new("/mnt").join(program.strip_prefix(built()).expect("it was built"))
}

fn built() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target directory")
}

/// Whether this test runs as root.
#[allow(unsafe_code)]
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid cannot fail and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

/// Waits until `what` holds, at most as long as a hang takes.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < HANG, "{what}: not after {HANG:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Makes `path` and everything under it accessible to all.
pub(crate) fn open_to_all(path: &Path) {
    let status =
        Command::new("chmod").arg("-R").arg("a+rX").arg(path).status().expect("chmod is there");
    assert!(status.success());
}
