//! Compiles the liburcu reader loops if liburcu's headers are installed (Debian: liburcu-dev);
//! without them the rows say so.

use std::env;

const FLAVOURS: [(&str, &str); 3] =
    [("memb", "TRAPLINE_MEMB"), ("qsbr", "TRAPLINE_QSBR"), ("bp", "TRAPLINE_BP")];

fn main() {
    println!("cargo::rerun-if-changed=csrc/urcu.c");
    println!("cargo::rerun-if-env-changed=TRAPLINE_NO_URCU");
    println!("cargo::rustc-check-cfg=cfg(urcu)");
    if env::var_os("TRAPLINE_NO_URCU").is_some() || !installed() {
        return;
    }
    for (flavour, define) in FLAVOURS {
        cc::Build::new()
            .file("csrc/urcu.c")
            .define(define, None)
            .opt_level(2)
            .compile(&format!("trapline-urcu-{flavour}"));
        println!("cargo::rustc-link-lib=urcu-{flavour}");
    }
    println!("cargo::rustc-cfg=urcu");
}

/// Whether the headers compile: the compiler knows its own search paths best.
fn installed() -> bool {
    FLAVOURS.iter().all(|(_, define)| {
        let mut probe = cc::Build::new();
        probe
            .file("csrc/urcu.c")
            .define(define, None)
            .cargo_metadata(false)
            .cargo_warnings(false)
            .warnings(false);
        probe.try_expand().is_ok()
    })
}
