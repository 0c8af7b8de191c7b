//! What comes later in a process with the image: libraries that are opened, programs that are
//! executed. Launched and attached, with both C libraries, while other threads run; with trapline
//! killed in between nothing happens to the process.

use super::common::{Case, Mode, Target};
use super::running::{Attached, Kind, Process, state};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const THREADS: usize = 8;
/// The kinds that open libraries.
const OPENING: [Kind; 2] = [Kind::Dynamic, Kind::Musl];

/// `tests/targets/plugin.c`, whose functions call back into the program.
fn plugin(kind: Kind, name: &str, factor: u32) -> Option<PathBuf> {
    let factor = format!("-DFACTOR={factor}");
    let target = Target::new("plugin.c").shared().named(name).flags(&[&factor]);
    Some(kind.compiled(target)?.build())
}

/// `tests/targets/follows.c`, which runs, and its library.
fn follows(kind: Kind) -> Option<Process> {
    let opens = OPENING.contains(&kind);
    let library = if opens { plugin(kind, "libdouble.so", 2)? } else { PathBuf::from("-") };
    let flags: &[&str] = if opens { &["-rdynamic"] } else { &[] };
    let program = kind.linked(Target::new("follows.c").flags(flags))?.build();
    let mut command = Command::new(program);
    command.arg(library);
    Some(Process::start_by(command, THREADS))
}

#[test]
fn libraries_that_are_opened_are_counted_from_their_constructor_on() {
    for kind in OPENING {
        let Some(mut process) = follows(kind) else { continue };
        let pid = process.pid().to_string();
        let attached = Attached::to(&["-p", &pid, "t_work", "libdouble.so:t_*"]);
        let calls = process.tell("o") + process.tell("o") + process.tell("k") + process.tell("o");
        let (report, finished) = attached.interrupt();
        assert_eq!(finished.code, 0, "{kind:?}: {}", finished.stderr);
        assert!(finished.stderr.contains("; waiting for an object"), "{}", finished.stderr);
        // glibc closes a library, and musl keeps it; the last is open already.
        let opened = if kind == Kind::Dynamic { 3 } else { 1 };
        let closed = if kind == Kind::Dynamic { 2 } else { 0 };
        assert_eq!(report.calls("t_plugin_work"), calls, "{kind:?}: {}", finished.stderr);
        assert_eq!(report.calls("t_plugin_constructor"), opened, "{kind:?}");
        assert_eq!(report.calls("t_plugin_destructor"), closed, "{kind:?}");
        assert!(report.lost().is_empty(), "{kind:?}: {:?}", report.lost());
        // What was armed later is taken back, too.
        assert_eq!(process.tell("o"), 10, "{kind:?}");
        process.end();
    }
}

/// A second run finds what is there, and what the first one has seen come.
#[test]
fn libraries_of_an_earlier_run() {
    for kind in OPENING {
        let Some(mut process) = follows(kind) else { continue };
        let pid = process.pid().to_string();
        for specs in [["-p", &pid, "libdouble.so:t_*"]; 2] {
            let attached = Attached::to(&specs);
            let calls = process.tell("k") + process.tell("k");
            let (report, finished) = attached.interrupt();
            assert_eq!(report.calls("t_plugin_work"), calls, "{kind:?}: {}", finished.stderr);
        }
        process.end();
    }
}

/// Two libraries in turn at the same addresses, in which other functions lie there.
#[test]
fn libraries_that_are_opened_and_closed_200_times() {
    let [double, triple] = [("libdouble.so", 2), ("libtriple.so", 3)];
    let kind = Kind::Musl;
    let Some(target) = kind.linked(Target::new("dlopen.c").flags(&["-rdynamic"])) else { return };
    let [Some(double), Some(triple)] =
        [double, triple].map(|(name, factor)| plugin(kind, name, factor))
    else {
        return;
    };
    // musl never unmaps: the program's own looks at what is gone do not hold.
    let bare = target.case().arg(&double).arg(&triple).bare();
    if bare.code == 0 {
        let case = target.case().arg(double).arg(triple);
        case.specs(&["entry:t_host", "entry:libdouble.so:*", "entry:libtriple.so:*"]).check();
    }
}

#[test]
fn programs_that_are_executed_are_counted_from_their_first_instruction() {
    for kind in Kind::ALL {
        let Some(mut process) = follows(kind) else { continue };
        let pid = process.pid().to_string();
        let attached = Attached::to(&["-p", &pid, "t_work"]);
        let before = process.tell("e 8");
        assert_eq!(before, 8, "{kind:?}: none of them is there");
        let mut own = 0;
        for what in ["v 7", "p 11", "t 13", "v 1", "x 17", "v 19", "p 23", "x 3", "t 5"] {
            own += process.tell(what);
        }
        let (report, finished) = attached.interrupt();
        assert_eq!(finished.code, 0, "{kind:?}: {}", finished.stderr);
        assert_eq!(report.calls("t_work"), own, "{kind:?}: {}", finished.stderr);
        assert!(report.lost().is_empty(), "{kind:?}: {:?}", report.lost());
        assert!(report.0["not_followed"].as_array().is_none_or(Vec::is_empty), "{:?}", report.0);
        // Nothing is left in what the process executes from here on.
        assert_eq!(process.tell("x 2"), 2, "{kind:?}");
        process.end();
    }
}

/// Ways to start a program, from static programs and musl's through a shell and back.
#[test]
fn programs_that_launched_ones_start() {
    for kind in [Kind::Static, Kind::StaticPie, Kind::Musl, Kind::MuslStatic] {
        let Some(target) = kind.linked(Target::new("spawn.c")) else { continue };
        target.case().specs(&["entry:*:t_*"]).check();
    }
    // A thread of the program's executes it beside others that create threads.
    for kind in [Kind::Static, Kind::Musl] {
        // musl has no `_Fork` before 1.2.2.
        let Some(target) = kind.linked(Target::new("fork_exec.c")) else { continue };
        let case = target.case().modes(&[Mode::Counted]);
        case.may_skip("too short for a jump").check();
    }
}

/// A filter of system calls that is no one's to judge keeps a program from being entered: it runs
/// as ever, and is named.
#[test]
fn what_cannot_be_entered_is_named() {
    let Some(shell) = super::common::tools::find("sh") else { return };
    let Some(python) = super::common::tools::find("python3") else { return };
    let text = "import ctypes, os\n\
        libc = ctypes.CDLL(None)\n\
        class Insn(ctypes.Structure):\n\
        \x20   _fields_ = [('code', ctypes.c_ushort), ('jt', ctypes.c_ubyte),\n\
        \x20       ('jf', ctypes.c_ubyte), ('k', ctypes.c_uint)]\n\
        class Prog(ctypes.Structure):\n\
        \x20   _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.POINTER(Insn))]\n\
        allow = Insn(6, 0, 0, 0x7fff0000)\n\
        assert libc.prctl(38, 1, 0, 0, 0) == 0\n\
        assert libc.prctl(22, 2, ctypes.byref(Prog(1, ctypes.pointer(allow)))) == 0\n\
        os.execv('/bin/echo', ['echo', 'filtered'])\n";
    let mut waits = Command::new(&shell);
    waits.arg("-c").arg("read go; \"$0\" -c \"$1\"; echo $?").arg(&python).arg(text);
    let mut waits = super::common::process::start(&mut waits);
    let pid = waits.id().to_string();
    let attached = Attached::to(&["-p", &pid, "libc.so.6:getppid"]);
    use std::io::Write as _;
    waits.child.stdin.as_mut().expect("piped").write_all(b"x\n").expect("it reads");
    let finished = waits.finish(b"");
    assert_eq!((finished.stdout.as_str(), finished.code), ("filtered\n0\n", 0));
    let (report, _) = attached.finish();
    let said = report.0["not_followed"].as_array().expect("an array").clone();
    assert!(
        said.iter().any(|one| one["program"] == "/bin/echo"
            && one["reason"].as_str().is_some_and(|why| why.contains("filters"))),
        "{said:?}"
    );
}

/// Whatever trapline was at when it was killed: the process and what it starts go on.
#[test]
fn killed_in_between() {
    for kind in [Kind::Dynamic, Kind::Static, Kind::Musl] {
        let Some(mut process) = follows(kind) else { continue };
        let opens = OPENING.contains(&kind);
        for round in 0..12_u64 {
            let pid = process.pid().to_string();
            let attached = Attached::to(&["-p", &pid, "t_work"]);
            let commands = ["v 2", if opens { "o" } else { "v 3" }, "p 4", "x 5", "t 6"];
            let kills = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_micros(700 * round));
                attached.kill();
            });
            for what in commands {
                process.tell(what);
            }
            kills.join().expect("killed");
            assert!(matches!(state(process.pid()), Some('S' | 'R' | 'D')), "{kind:?}");
        }
        // Nobody answers: nothing waits for that.
        let begun = std::time::Instant::now();
        (0..10).for_each(|_| assert_eq!(process.tell("v 1"), 1));
        let hang = std::time::Duration::from_secs(60);
        assert!(begun.elapsed() < hang, "each of them has waited in vain");
        assert!(fs::read_dir("/proc/self").is_ok());
        process.end();
    }
}

/// glibc's programs, too, are started with the image in them if that is asked for: exact from the
/// functions on that their loader calls, with nothing in their environment.
#[test]
fn programs_of_glibcs_loader() {
    let by_image = |case: Case| case.env("TRAPLINE_AGENT", "image");
    let early = Target::new("early.c").flags(&["-DINDIRECT"]).case().code(5);
    by_image(early).modes(&[Mode::Counted]).check();
    let spawn = Target::new("spawn.c").case();
    // The environment that it compares has the variable in it, bare or not.
    by_image(spawn).specs(&["entry:*:t_*"]).check();
    let Some(plugin) = plugin(Kind::Dynamic, "liblinked.so", 2) else { return };
    let folder = plugin.parent().expect("a folder").to_str().expect("text");
    let (place, path) = (format!("-L{folder}"), format!("-Wl,-rpath,{folder}"));
    let linked = Target::new("linked.c").flags(&["-rdynamic", &place, "-llinked", &path]).case();
    by_image(linked.clone()).specs(&["entry:*:t_*"]).check();
    by_image(linked).specs(&["entry:liblinked.so:*"]).check();
}

/// A library whose file is written anew before it is opened again is another one.
#[test]
fn a_library_that_is_rewritten() {
    let library = |factor: u32| {
        let factor = format!("-DFACTOR={factor}");
        Target::new("opened_library.c").shared().flags(&[&factor]).build()
    };
    let program = Target::new("opened.c").build();
    for what in ["rewritten", "replaced", "relative"] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let case = Case::new(&program).arg(what).arg(library(2)).arg(library(3));
        let case = case.arg(directory.path()).env("TRAPLINE_AGENT", "image");
        case.specs(&["entry:*:t_*"]).check();
    }
}

/// A process that has other numbers where it is, and whose processes have.
#[test]
fn programs_that_are_executed_in_another_pid_namespace() {
    if !super::common::process::is_root() {
        return;
    }
    for kind in [Kind::Static, Kind::Dynamic] {
        let Some(target) = kind.linked(Target::new("follows.c")) else { continue };
        let program = target.build();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(program).arg("-");
        let mut process = Process::start_below(command, THREADS);
        let inside = process.children()[0].to_string();
        let attached = Attached::to(&["-p", &inside, "t_work"]);
        let mut own = 0;
        for what in ["v 7", "p 11", "t 13", "x 17", "v 2"] {
            own += process.tell(what);
        }
        let (report, finished) = attached.interrupt();
        assert_eq!(report.calls("t_work"), own, "{kind:?}: {}", finished.stderr);
        assert!(report.lost().is_empty(), "{kind:?}: {:?}", report.lost());
        process.end();
    }
}

/// The specs of a program that was launched mean what comes later, too.
#[test]
fn libraries_that_launched_programs_open() {
    let Some(library) = plugin(Kind::Musl, "libdouble.so", 2) else { return };
    let target = Kind::Musl.linked(Target::new("follows.c").flags(&["-rdynamic"]));
    let case = Case::new(&target.expect("as before").build()).arg(library).arg("2");
    let case = case.input(b"o\nv 9\n").code(7);
    let (finished, report) =
        case.probed(&["entry:libdouble.so:t_*".to_owned(), "entry:t_work".to_owned()]);
    let report = report.unwrap_or_else(|why| panic!("{why}: {}", finished.stderr));
    assert_eq!(finished.code, 7, "{}", finished.stderr);
    assert_eq!((report.calls("t_plugin_work"), report.calls("t_work")), (10, 9));
    assert_eq!(report.calls("t_plugin_constructor"), 1);
}
