//! Runtimes whose stacks are not to be touched: they look at the return addresses on them, or copy
//! them away and back. An instance in the place of a return address would be met by a reader that
//! knows all code of the process but that.

use super::elf::{Elf, SHT_DYNSYM, SHT_SYMTAB};

/// Symbols by whose definition a runtime is recognised: the whole name, or what it begins with.
const NAMES: [&str; 8] = [
    // HotSpot.
    "gHotSpotVMStructs",
    // CPython, whose extension greenlet (gevent, eventlet, SQLAlchemy) copies parts of stacks. It
    // is loaded when the functions of the interpreter have been probed for long.
    "_PyEval_EvalFrameDefault",
    // OCaml, whose collector finds roots by return addresses.
    "caml_frametable",
    "caml_system__frametable",
    // .NET and Mono.
    "coreclr_initialize",
    "mono_jit_init",
    // Julia, whose tasks may share a stack by copying.
    "jl_init",
    // SpiderMonkey.
    "JS_NewContext",
];

/// The same of C++ names: V8 (node, Chromium, Electron) and JavaScriptCore.
const PREFIXES: [&str; 3] = ["_ZN2v88internal", "_ZN2v87Isolate", "_ZN3JSC"];

/// Whether a file has such a runtime.
pub(crate) fn walks_stacks(elf: &Elf<'static>) -> bool {
    [SHT_DYNSYM, SHT_SYMTAB].into_iter().flat_map(|table| elf.symbols(table)).any(|symbol| {
        let known = |name: &str| {
            NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        symbol.section != 0 && known(symbol.name)
    })
}
