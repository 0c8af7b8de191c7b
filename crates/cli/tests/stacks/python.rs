//! Debian's python3: a C function of the interpreter called from scripts, through the interpreter's
//! own recursion, through libc and through ctypes.

use super::recorded::Recorded;
use super::{compare, gdb};
use crate::common::build::sources;
use crate::common::process::program;
use crate::common::tools;

#[test]
fn a_function_of_the_interpreter() {
    let python = std::path::Path::new("/usr/bin/python3");
    if !python.is_file() {
        tools::missing("/usr/bin/python3");
        return;
    }
    if !gdb::available() {
        return;
    }
    const FUNCTION: [&str; 1] = ["PyLong_FromString"];
    let mut command = program(python);
    // No files of compiled code are written or looked at in the directory, and hashes are the same
    // each time.
    command.env("PYTHONHASHSEED", "0").args(["-S", "-B"]).arg(sources().join("stacks.py"));
    let expected = gdb::stacks(&FUNCTION, &command);
    for options in [
        &["PyLong_FromString"][..],
        &[
            "--weight",
            "time",
            "PyLong_FromString",
            "_PyEval_EvalFrameDefault",
            "PyObject_*",
            "_PyObject_*",
            "_PyFunction_Vectorcall",
        ],
    ] {
        let recorded = Recorded::run(&[&["--stack", "dwarf:254"], options].concat(), &command);
        compare::same(&format!("python3 {options:?}"), &recorded, &FUNCTION, &expected, |_| true);
    }
}
