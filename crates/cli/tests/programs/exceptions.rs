//! Unwinding through probed frames: C++ exceptions, Rust panics, backtraces.

use crate::common::{Mode, Target};

#[test]
fn cpp_exceptions() {
    Target::new("throw.cpp").check();
    Target::new("throw.cpp").flags(&["-O0", "-fno-omit-frame-pointer"]).check();
}

/// The unwinder in the program itself, as in programs linked against a static libgcc.
#[test]
fn cpp_exceptions_with_a_static_runtime() {
    Target::new("throw.cpp").flags(&["-static-libgcc", "-static-libstdc++"]).check();
}

/// The unwinder and the C++ runtime are probed, too.
#[test]
fn cpp_exceptions_through_the_runtime() {
    Target::new("throw.cpp").case().specs(&["t_*", "libstdc++.so.6:*", "libgcc_s.so.1:*"]).check();
}

#[test]
fn exceptions_that_end_the_program() {
    let target = Target::new("throw_end.cpp");
    for (how, code) in
        [("uncaught", 134), ("noexcept", 134), ("destructor", 134), ("handler", 42), ("exit", 43), ("quick", 44), ("now", 45)]
    {
        target.case().arg(how).code(code).check();
    }
}

#[test]
fn rust_panics() {
    Target::new("panic.rs").case().code(101).check();
    Target::new("panic.rs").flags(&["-C", "opt-level=0"]).case().code(101).check();
}

#[test]
fn backtraces_name_the_same_functions() {
    Target::new("backtrace.c").flags(&["-rdynamic"]).check();
    Target::new("backtrace.c").flags(&["-rdynamic", "-O0"]).check();
    Target::new("backtrace.c").flags(&["-rdynamic"]).case().modes(&[Mode::WithLibc]).check();
}
