//! Live segments: everything that a process of the run can write is damaged while it runs.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::random::Random;
use super::{check, each};
use crate::common::process::{run, start};
use crate::common::{Target, trapline};

/// Bytes that are written to at a time around one place.
const NEAR: u64 = 256;
/// How far it is looked for something that is there.
const FAR: usize = 4 << 10;
/// Places that are damaged at a time: a run that is damaged little gets further than one that is
/// damaged much.
const BURSTS: [usize; 4] = [1, 4, 32, 256];
/// Most microseconds from one time to the next: so many, and so many for each place.
const PAUSE: u64 = 3000;
const PAUSE_EACH: u64 = 50;
/// Times between two looks at what the file holds.
const LOOKS: u64 = 8;
/// Where the tables' header says where the counters begin in a file with both; 0 until it is made.
const COUNTERS_AT: u64 = 80;
/// Where the counters say how many processes there were.
const PROCESSES: u64 = 72;

/// What the processes of a run can write: a file, from a place on. It is written to through the
/// file: a mapping may be gone, and another in its place, when its turn comes.
struct Counters {
    file: File,
    from: u64,
}

impl Counters {
    /// Those of a run of trapline (`pid`), in a file of their own or in the one that was named.
    /// None: not yet, or no more.
    fn of(pid: i32, named: Option<&Path>) -> Option<Self> {
        let is_it = |link: &Path| match named {
            Some(named) => link == named,
            None => link.to_string_lossy().contains("trapline-counters"),
        };
        let mut open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let fd = open.find(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| is_it(&link)))?;
        let file = File::options().read(true).write(true).open(fd.path()).ok()?;
        let from = if named.is_some() { word(&file, COUNTERS_AT)? } else { 0 };
        (named.is_none() || from > 0).then_some(Self { file, from })
    }

    /// The ranges of it that hold something: the rest is only there in name.
    #[allow(unsafe_code)]
    fn data(&self) -> Vec<Range<u64>> {
        let seek = |at: u64, how| {
            // SAFETY: takes numbers only.
            let found = unsafe { libc::lseek(self.file.as_raw_fd(), at.cast_signed(), how) };
            u64::try_from(found).ok()
        };
        let mut found = Vec::new();
        let mut at = self.from;
        while let Some(from) = seek(at, libc::SEEK_DATA) {
            at = seek(from, libc::SEEK_HOLE).unwrap_or(from);
            if at <= from {
                break;
            }
            found.push(from..at);
        }
        found
    }

    /// A place in one of the ranges; more often than not one where something is written.
    fn place(&self, ranges: &[Range<u64>], random: &mut Random) -> u64 {
        let range = random.of(ranges);
        let place = (range.start + random.next() % (range.end - range.start)) & !7;
        if random.percent(30) {
            return place;
        }
        let mut bytes = [0; FAR];
        let read = self.file.read_at(&mut bytes, place).unwrap_or(0);
        let there = bytes[..read].chunks(8).position(|word| word.iter().any(|byte| *byte != 0));
        there.map_or(place, |words| place + 8 * words as u64)
    }

    /// Damages a few words at a place; how many. What is written is made up, or stands elsewhere.
    fn damage(&self, ranges: &[Range<u64>], random: &mut Random) -> u64 {
        let place = self.place(ranges, random);
        let mut words = 0;
        // Records lie beside one another: damage does, too.
        for _ in 0..1 + random.below(4) {
            let at = ((place + random.next() % NEAR) & !7).max(self.from);
            let Some(old) = word(&self.file, at) else { continue };
            let other = random.percent(25).then(|| self.place(ranges, random));
            let new = other.and_then(|at| word(&self.file, at));
            let new = new.unwrap_or_else(|| random.damaged(old));
            let inside = ranges.iter().any(|range| range.contains(&at) && at + 8 <= range.end);
            words += u64::from(inside && self.file.write_all_at(&new.to_ne_bytes(), at).is_ok());
        }
        words
    }
}

fn word(file: &File, at: u64) -> Option<u64> {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).ok()?;
    Some(u64::from_ne_bytes(word))
}

/// Damages the segment until `over`; how many words.
fn damage(pid: i32, named: Option<&Path>, random: &mut Random, over: &AtomicBool) -> u64 {
    // From the beginning on, or once a process counts.
    let at_once = random.percent(50);
    let burst = *random.of(&BURSTS);
    let mut counters = None;
    let (mut ranges, mut words) = (Vec::new(), 0);
    for round in 0_u64.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        counters = counters.or_else(|| Counters::of(pid, named));
        if let Some(counters) = &counters
            && (at_once || words > 0 || word(&counters.file, counters.from + PROCESSES) > Some(0))
        {
            if ranges.is_empty() || round.is_multiple_of(LOOKS) {
                ranges = counters.data();
            }
            let times = if ranges.is_empty() { 0 } else { burst };
            (0..times).for_each(|_| words += counters.damage(&ranges, random));
        }
        // The run is to get somewhere.
        let most = PAUSE + PAUSE_EACH * burst as u64;
        thread::sleep(Duration::from_micros(random.next() % most));
    }
    words
}

/// Old stacks give way: not with times.
const EVICT: &[&str] = &["--on-full", "evict", "--stack-memory", "256k"];

/// Options of a run, and the file that they name for the segment.
struct Options {
    words: Vec<String>,
    named: Option<std::path::PathBuf>,
}

impl Options {
    fn new(random: &mut Random, directory: &Path) -> Self {
        let output = directory.join(*random.of(&["a.tlp", "a.svg", "a.json", "a.html"]));
        let output = output.to_str().expect("in UTF-8");
        let segment = directory.join("a.segment");
        let mut named = None;
        let mut all: Vec<&str> = Vec::new();
        if random.percent(50) {
            all.extend(["record", "-o", output]);
            let kinds: [&[&str]; 3] = [&["--weight", "time"], &[], EVICT];
            let kind = *random.of(&kinds);
            for (percent, options) in [(100, kind), (30, &["--stack", "fp"])] {
                if random.percent(percent) {
                    all.extend(options);
                }
            }
            if random.percent(20) {
                all.extend(["--segment", segment.to_str().expect("in UTF-8")]);
                named = Some(segment.clone());
                // A file gets all of it at once.
                if kind != EVICT {
                    all.extend(["--stack-memory", "1m"]);
                }
            }
        } else {
            all.extend(["stat", "-o", output]);
            for (percent, options) in [
                (50, &["--per-thread"][..]),
                (30, &["-i", "0.05"]),
                (30, &["--hist", "--all"]),
                (30, &["-j"]),
            ] {
                if random.percent(percent) {
                    all.extend(options);
                }
            }
        }
        if random.percent(20) {
            all.push("-v");
        }
        Self { words: all.into_iter().map(str::to_owned).collect(), named }
    }
}

#[test]
fn damaged_while_it_runs() {
    let flags = ["-DFACTOR=2"];
    let library = Target::new("opened_library.c").shared().flags(&flags).build();
    let program = Target::new("fuzzed.c").build();
    let words = AtomicU64::new(0);
    each("segment", 24, |seed| {
        let mut random = Random::new(seed);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = Options::new(&mut random, directory.path());
        let named = options.named.as_deref();
        let mut command = trapline();
        command.args(&options.words).args(["t_*", "*opened*:*", "--"]).arg(&program);
        let running = start(command.arg(&library).arg(if random.percent(5) { "8" } else { "2" }));
        let (pid, over) = (running.id(), AtomicBool::new(false));
        let (finished, damaged) = thread::scope(|scope| {
            let damage = scope.spawn(|| damage(pid, named, &mut random, &over));
            let finished = running.finish(b"");
            over.store(true, Ordering::Relaxed);
            (finished, damage.join().expect("no panic"))
        });
        let what = format!("FUZZ_SEED={seed} FUZZ_RUNS=1 {:?}", options.words);
        check(&what, &finished);
        let (output, errors) = (&finished.stdout, &finished.stderr);
        assert!(output.contains("right"), "{what}: {output}{errors}");
        // The program is there and has them, whatever stands in the segment.
        let lies = ["'t_*' matched", "agent was not loaded"].iter().any(|lie| errors.contains(lie));
        assert!(!lies, "{what}: {errors}");
        if let Some(named) = named {
            check(&format!("{what}: report"), &run(trapline().arg("report").arg(named), b""));
        }
        words.fetch_add(damaged, Ordering::Relaxed);
    });
    let words = words.into_inner();
    println!("segment: {words} words damaged");
    assert!(words > 0, "nothing that a process can write was found");
}
