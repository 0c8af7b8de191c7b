//! How long a process stands, with 2, 20 and 500 threads: for one thread stopped and two system
//! calls made on it, for all threads stopped and the same, and for 3,000 patches written: without
//! windows, as when they are taken back, and with, for which all stacks are read.
//!
//! `cargo run --release -p trapline-inject --example stopped_time`

use inject::{Error, Force, Patch, Target, Tracer, Window};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 50;
const PATCHES: usize = 3000;
/// Bytes from one patched place to the next: a small function.
const APART: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, threads, patched] = &arguments[..]
        && patched == "target"
    {
        return target(threads.parse()?);
    }
    println!("threads  what                            min  median     max  (ms, {ROUNDS} rounds)");
    for threads in [2, 20, 500] {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([&threads.to_string(), "target"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut address = [0; 8];
        child.stdout.as_mut().expect("piped").read_exact(&mut address)?;
        let target = Target::probe(child.id() as i32, Force::default())?;
        let patches: Vec<Patch> = (0..PATCHES as u64)
            .map(|n| Patch {
                address: u64::from_ne_bytes(address) + n * APART as u64,
                old: vec![0; 5],
                new: vec![0xe9, 1, 2, 3, 4],
            })
            .collect();
        let back: Vec<Patch> = patches.iter().map(Patch::reversed).collect();
        measure(&target, threads, "one stopped, two calls", |tracer| calls(tracer.stop_one()?))?;
        measure(&target, threads, "all stopped, two calls", |tracer| calls(tracer.stop_all()?))?;
        let window = |patch: &Patch| Window {
            range: patch.address..patch.address + 5,
            moved: vec![(patch.address, 0)],
        };
        let windows: Vec<Window> = patches.iter().map(window).collect();
        let mut turn = [&back, &patches].into_iter().cycle();
        let mut next = || turn.next().expect("endless");
        next();
        for (what, windows) in [("all stopped, 3,000 patches", &[][..]), ("with windows", &windows)]
        {
            measure(&target, threads, what, |tracer| {
                tracer.stop_all()?.patch(next(), windows).map(drop)
            })?;
        }
        drop(child.stdin.take());
        child.wait()?;
    }
    Ok(())
}

fn calls(mut stopped: inject::Stopped<'_>) -> Result<(), Error> {
    let mut remote = stopped.remote()?;
    for _ in 0..2 {
        remote.call(libc::SYS_getpid, [0; 6])?.expect("never refused");
    }
    Ok(())
}

/// Rounds of `work`, which stops and releases.
fn measure(
    target: &Target,
    threads: usize,
    what: &str,
    mut work: impl FnMut(&mut Tracer) -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let mut times = target.trace(|tracer| {
        let round = |_| {
            let start = Instant::now();
            work(tracer)?;
            let time = start.elapsed();
            // The program gets some work done in between.
            std::thread::sleep(Duration::from_millis(1));
            Ok(time)
        };
        (0..ROUNDS).map(round).collect::<Result<Vec<_>, Error>>()
    })?;
    times.sort();
    let at = |n: usize| times[n].as_secs_f64() * 1e3;
    let (min, median, max) = (at(0), at(ROUNDS / 2), at(ROUNDS - 1));
    println!("{threads:>7}  {what:<28} {min:>6.2}  {median:>6.2}  {max:>6.2}");
    Ok(())
}

/// The process: one thread calculates, the others wait, until standard input ends.
fn target(threads: usize) -> Result<(), Box<dyn std::error::Error>> {
    let room = vec![0_u8; PATCHES * APART].leak();
    for n in 1..threads {
        std::thread::spawn(move || {
            loop {
                if n == 1 {
                    std::hint::black_box(n);
                } else {
                    std::thread::park();
                }
            }
        });
    }
    let mut output = std::io::stdout();
    output.write_all(&(room.as_ptr() as u64).to_ne_bytes())?;
    output.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
