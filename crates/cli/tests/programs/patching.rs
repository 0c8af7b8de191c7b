//! What a patch displaces: first instructions, branches into the window and back to byte 0,
//! functions shorter than a jump.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};

use crate::common::process::{run, start};
use crate::common::{Mode, Target, trapline};

#[test]
fn branch_back_to_byte_0() {
    Target::new("branch_to_start.c").check();
}

/// The functions' callees look at the return address: an entry probe never touches it.
#[test]
fn entries_of_functions_that_branch_back() {
    let target = Target::new("branch_back.c");
    target.case().modes(&[Mode::Counted, Mode::Recorded]).check();
    target.flags(&["-no-pie"]).case().modes(&[Mode::Counted, Mode::Recorded]).check();
}

/// What the program writes over is not counted any more, and the report says so of that function
/// alone.
#[test]
fn probes_that_the_program_overwrites() {
    let case = Target::new("overwritten.c").case().specs(&["entry:t_*"]);
    for report in case.check() {
        for function in report.functions() {
            let note = function["note"].as_str().unwrap_or_default();
            let patched = function["name"] == "t_patched";
            assert_eq!(note.contains("overwritten"), patched, "{function}");
        }
    }
}

/// However the program ends: what it wrote before it made its code executable again is known even
/// where it is killed.
#[test]
fn overwritten_probes_are_known_at_every_end() {
    let case = Target::new("overwritten.c").case().specs(&["entry:t_*"]);
    let ends = [
        ("return", 0),
        ("_exit", 0),
        ("quick_exit", 0),
        ("kill", 137),
        ("abort", 134),
        ("early", 0),
        ("writable, return", 0),
        ("writable, _exit", 0),
        ("writable, quick_exit", 0),
        ("child", 0),
    ];
    for (end, code) in ends {
        for report in case.clone().arg(end).code(code).check() {
            let note = |name: &str| {
                let functions = report.functions();
                let function = functions.iter().find(|function| function["name"] == name);
                let function = function.unwrap_or_else(|| panic!("{end}: no {name}"));
                function["note"].as_str().unwrap_or_default().contains("overwritten")
            };
            assert!(note("t_patched") && !note("t_left_alone") && !note("t_other"), "{end}");
        }
    }
}

/// Code that is not there any more is not looked at.
#[test]
fn code_that_the_program_takes_away() {
    let target = Target::new("taken_away.c");
    for how in ["munmap", "mmap", "mremap", "mprotect"] {
        target.case().arg(how).check();
        target.case().arg(format!("{how} by number")).check();
    }
    for how in ["mremap to", "mprotect and back"] {
        target.case().arg(how).check();
    }
}

/// In rows for programs, where nothing was called, and in recordings.
#[test]
fn overwritten_probes_are_said_in_every_output() {
    let program = Target::new("overwritten.c").build();
    let of = |words: &[&str]| {
        let mut command = trapline();
        command.args(words).args(["entry:t_*", "--"]).arg(&program).arg("early");
        let finished = run(&mut command, b"");
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished.stdout + &finished.stderr
    };
    let row = "its probe was overwritten: later calls are not counted";
    let footer = "probes that were overwritten: 1 (t_patched): later calls are not counted";
    let text = of(&["stat", "-x", ";"]);
    let line = text.lines().find(|line| line.starts_with("overwritten;t_patched;0;"));
    assert!(line.is_some_and(|line| line.ends_with(&format!(";{row}"))), "{text}");
    assert!(text.lines().any(|line| line == format!("# {footer}")), "{text}");
    let text = of(&["stat"]);
    assert!(text.lines().any(|line| line.ends_with(&format!("t_patched  ({row})"))), "{text}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("a.tlp");
    let text = of(&["record", "-o", file.to_str().expect("UTF-8")]);
    assert!(text.lines().any(|line| line.ends_with(footer)), "{text}");
    let shown = run(trapline().arg("report").arg(&file), b"").stdout;
    assert!(shown.lines().any(|line| line == footer), "{shown}");
}

/// Intervals say it once, when it has happened; the report at the end does, too.
#[test]
fn overwritten_probes_are_said_while_the_program_runs() {
    let mut command = trapline();
    command.args(["stat", "-i", "20ms", "-j", "-o", "-", "entry:t_*", "--"]);
    let mut running = start(command.arg(Target::new("overwritten.c").build()).arg("wait"));
    let mut input = running.child.stdin.take();
    let output = BufReader::new(running.child.stdout.take().expect("piped"));
    let (mut intervals, mut later, mut at_end) = (0, 0, 0);
    for line in output.lines().map(|line| line.expect("readable")) {
        let says = line.contains("overwritten: later");
        if line.contains("\"kind\":\"interval\"") {
            intervals += usize::from(says);
            later += usize::from(intervals > 0);
            // A few more, which have nothing new to say.
            if later == 4 {
                input = None;
            }
        } else if line.contains("\"kind\":\"report\"") {
            at_end += usize::from(says);
        }
    }
    assert!(input.is_none() && (intervals, at_end) == (1, 1), "{intervals} {at_end}");
    assert_eq!(running.child.wait().expect("ours").code(), Some(0));
}

#[test]
fn branch_into_the_window() {
    Target::new("branch_into_window.c").check();
}

#[test]
fn every_kind_of_first_instruction() {
    Target::new("first_instruction.c").check();
    Target::new("first_instruction.c").flags(&["-no-pie"]).check();
}

#[test]
fn functions_shorter_than_a_jump() {
    Target::new("short_functions.c").check();
}

#[test]
fn compiled_with_landing_pads() {
    for source in ["arguments.c", "mutual_recursion.c", "longjmp.c"] {
        Target::new(source).flags(&["-fcf-protection=full"]).check();
    }
}

#[test]
fn compiled_for_patching() {
    Target::new("mutual_recursion.c").flags(&["-fpatchable-function-entry=5"]).check();
    Target::new("mutual_recursion.c").flags(&["-fpatchable-function-entry=16,8"]).check();
}

/// 20,000 functions of three shapes, each called twice through a table: arming all of them, and all
/// of them right.
#[test]
fn twenty_thousand_functions() {
    const N: usize = 20_000;
    let mut text = String::from("#include \"target.h\"\n");
    for i in 0..N {
        let body = match i % 3 {
            0 => format!("lea {i}(%rdi), %rax\\n ret\\n .p2align 4,0x90"),
            1 => format!(
                "push %rbx\\n mov %rdi, %rbx\\n lea {i}(%rbx), %rax\\n pop %rbx\\n ret\\n \
                    .p2align 4,0x90"
            ),
            _ => "mov %rdi, %rax\\n ret\\n nop; ret".to_owned(),
        };
        let _ = writeln!(text, "ASM_FUNCTION(t_f{i}, \"{body}\"); extern long t_f{i}(long);");
    }
    text.push_str("long (*const table[])(long) = {\n");
    for i in 0..N {
        let _ = writeln!(text, "t_f{i},");
    }
    let _ = write!(
        text,
        "}};\nint main(void) {{\n long sum = 0;\n for (int k = 0; k < 2; k++)\n  for (long i = 0; \
            i < {N}; i++)\n   sum += table[i](i);\n \
         printf(\"sum %ld\\n\", sum);\n printf(\"sum t_f {}\\n\");\n for (int i = 0; i < {N}; i \
         += 997)\n  printf(\"calls t_f%d 2\\n\", i);\n}}\n",
        2 * N
    );
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join("many.c");
    std::fs::write(&source, text).expect("the temporary directory is writable");
    let include = format!("-I{}", crate::common::build::sources().display());
    let reports = Target::from_path(&source).flags(&["-O0", "-g0", &include]).case().check();
    for report in reports {
        assert!(report.armed() >= N as u64, "{} armed", report.armed());
    }
}

/// Inside a restartable sequence a breakpoint would repeat for ever: those places are left alone.
#[test]
fn restartable_sequences() {
    for specs in [&["t_increment"][..], &["entry:t_*"], &["t_*"], &[]] {
        let report = Target::new("rseq.c").case().specs(specs).check_output_only();
        assert_eq!(report.calls("t_increment"), 200_000, "{specs:?}");
    }
}
