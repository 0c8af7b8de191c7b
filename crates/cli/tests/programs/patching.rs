//! What a patch displaces: first instructions, branches into the window and back to byte 0, functions shorter than a jump.

use std::fmt::Write as _;

use crate::common::Target;

#[test]
fn branch_back_to_byte_0() {
    Target::new("branch_to_start.c").check();
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

/// 20,000 functions of three shapes, each called twice through a table: arming all of them, and all of them right.
#[test]
fn twenty_thousand_functions() {
    const N: usize = 20_000;
    let mut text = String::from("#include \"target.h\"\n");
    for i in 0..N {
        let body = match i % 3 {
            0 => format!("lea {i}(%rdi), %rax\\n ret\\n .p2align 4,0x90"),
            1 => format!("push %rbx\\n mov %rdi, %rbx\\n lea {i}(%rbx), %rax\\n pop %rbx\\n ret\\n .p2align 4,0x90"),
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
        "}};\nint main(void) {{\n long sum = 0;\n for (int k = 0; k < 2; k++)\n  for (long i = 0; i < {N}; i++)\n   sum += table[i](i);\n \
         printf(\"sum %ld\\n\", sum);\n printf(\"sum t_f {}\\n\");\n for (int i = 0; i < {N}; i += 997)\n  printf(\"calls t_f%d 2\\n\", i);\n}}\n",
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
