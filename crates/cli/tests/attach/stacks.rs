//! Call stacks of what processes do that run already.

use super::common::Target;
use super::common::process::{Finished, Running, send_signal, start, trapline, wait_until};
use super::running::{Attached, Kind, Process, has_more_jumps};
use std::fs;
use std::path::PathBuf;

/// `trapline record`, which has entered a process.
struct Recording {
    running: Running,
    folder: tempfile::TempDir,
}

impl Recording {
    fn of(process: &Process, function: &str) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let before = process.code();
        let mut command = trapline();
        command.args(["record", function, "-p", &process.pid().to_string()]);
        for name in ["stacks.folded", "stacks.tlp"] {
            command.arg("-o").arg(folder.path().join(name));
        }
        let running = start(&mut command);
        wait_until("armed", || has_more_jumps(&before, &process.code()));
        Self { running, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// ^C: what it said, the stacks, and hits, stacks' hits and hits without a stack.
    fn end(self) -> (Finished, Vec<(String, u64)>, [u64; 3]) {
        send_signal(self.running.id(), libc::SIGINT);
        let (folded, recording) = (self.path("stacks.folded"), self.path("stacks.tlp"));
        let Self { running, folder } = self;
        let finished = running.finish(b"");
        let text = fs::read_to_string(folded).unwrap_or_else(|_| panic!("{}", finished.stderr));
        let stack = |line: &str| {
            let (stack, hits) = line.rsplit_once(' ').expect("a number");
            (stack.to_string(), hits.parse().expect("a number"))
        };
        let stacks: Vec<_> = text.lines().map(stack).collect();
        let report = start(trapline().args(["report", "-j"]).arg(recording)).finish(b"").stdout;
        drop(folder);
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let without = report["no_stack"].as_object().expect("an object");
        let without = without.values().map(|n| n.as_u64().expect("a number")).sum();
        let recorded = stacks.iter().map(|(_, hits)| hits).sum();
        (finished, stacks, [report["hits"].as_u64().expect("a number"), recorded, without])
    }
}

fn process(kind: Kind) -> Option<Process> {
    let mut process = Process::start(&kind.linked(Target::new("chain.c"))?.build(), 0);
    // It has begun.
    process.tell("w 1");
    Some(process)
}

/// The hits of all stacks whose end is this.
fn ending(stacks: &[(String, u64)], end: &str) -> u64 {
    let ends = stacks.iter().filter(|(stack, _)| stack.ends_with(end));
    ends.map(|(_, hits)| hits).sum()
}

#[test]
fn chains_are_those_that_the_program_sees() {
    for kind in Kind::ALL {
        let Some(mut process) = process(kind) else { continue };
        let depth = process.tell("b");
        // The second time it is known what was learned the first time.
        for round in 0..2 {
            let recording = Recording::of(&process, "t_leaf");
            process.tell("w 1000");
            let (finished, stacks, counts) = recording.end();
            assert_eq!(counts, [3000, 3000, 0], "{kind:?} {round}: {}", finished.stderr);
            let known = [("t_first", 1000), ("t_second", 2000)];
            for (caller, hits) in known {
                let end = format!(";main;t_outer;{caller};t_leaf");
                assert_eq!(ending(&stacks, &end), hits, "{kind:?}: {stacks:?}");
            }
            let musl = matches!(kind, Kind::Musl | Kind::MuslStatic);
            for (stack, _) in &stacks {
                // Debian's musl has no unwind tables: what is behind main is not known.
                let begin = if musl { "[no unwind information];" } else { "_start;" };
                assert!(stack.starts_with(begin), "{kind:?}: {stack}");
                assert!(musl || stack.split(';').count() as u64 == depth, "{depth}: {stack}");
            }
        }
        process.end();
    }
}

/// Counts, stacks, counts, and so on: nothing grows, and what ran before has no part in it.
#[test]
fn counts_and_stacks_in_turn() {
    let Some(mut process) = process(Kind::Dynamic) else { return };
    let pid = process.pid().to_string();
    let mappings = |process: &Process| {
        let maps = fs::read_to_string(format!("/proc/{}/maps", process.pid())).expect("it runs");
        maps.lines().count()
    };
    let mut most = 0;
    for round in 0..6 {
        let attached = Attached::to(&["-p", &pid, "t_leaf"]);
        process.tell("w 10");
        let (report, finished) = attached.interrupt();
        assert_eq!(report.calls("t_leaf"), 30, "{}", finished.stderr);
        process.tell("w 5");
        let recording = Recording::of(&process, "t_leaf");
        process.tell("w 20");
        let (finished, _, counts) = recording.end();
        assert_eq!(counts, [60, 60, 0], "{}", finished.stderr);
        match round {
            0 | 1 => most = mappings(&process),
            _ => assert_eq!(mappings(&process), most, "round {round}"),
        }
    }
    process.end();
}

#[test]
fn fork_children_take_stacks() {
    for kind in Kind::ALL {
        let Some(mut process) = process(kind) else { continue };
        let recording = Recording::of(&process, "t_leaf");
        process.tell("w 10");
        process.tell("c 100");
        process.tell("w 1");
        let (finished, stacks, counts) = recording.end();
        assert_eq!(counts, [333, 333, 0], "{kind:?}: {}", finished.stderr);
        assert_eq!(ending(&stacks, ";t_outer;t_second;t_leaf"), 222, "{kind:?}: {stacks:?}");
        process.end();
    }
}

/// The recording begins and ends while all threads are in the middle of it.
#[test]
fn every_hit_has_its_stack_or_is_said_to_have_none() {
    for kind in Kind::ALL {
        let Some(program) = kind.build() else { continue };
        let mut process = Process::start(&program, 20);
        process.tell("r");
        for _ in 0..3 {
            let recording = Recording::of(&process, "t_work");
            std::thread::sleep(std::time::Duration::from_millis(50));
            let (finished, stacks, [hits, recorded, without]) = recording.end();
            assert!(hits > 0 && recorded > 0, "{kind:?}: {}", finished.stderr);
            assert_eq!(hits, recorded + without, "{kind:?}: {}", finished.stderr);
            assert_eq!(ending(&stacks, ";keep;t_work"), recorded, "{kind:?}: {stacks:?}");
        }
        process.tell("s");
        process.end();
    }
}

/// Static programs that are started have the image in them, and take stacks from the first hit on.
#[test]
fn programs_that_are_started() {
    for kind in [Kind::Static, Kind::StaticPie, Kind::MuslStatic, Kind::Musl] {
        let Some(target) = kind.linked(Target::new("chain.c")) else { continue };
        let mut command = trapline();
        command.args(["record", "t_leaf", "-o", "-", "-f", "folded", "--"]).arg(target.build());
        let finished = start(&mut command).finish(b"w 100\n");
        assert_eq!(finished.code, 7, "{}", finished.stderr);
        let said = finished.stdout;
        let hits = |end: &str| {
            let line = said.lines().find(|line| line.contains(end));
            line.and_then(|line| line.rsplit_once(' ')).and_then(|(_, n)| n.parse::<u64>().ok())
        };
        assert_eq!(hits(";main;t_outer;t_first;t_leaf "), Some(100), "{kind:?}: {said}");
        assert_eq!(hits(";main;t_outer;t_second;t_leaf "), Some(200), "{kind:?}: {said}");
    }
}
