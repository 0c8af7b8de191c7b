//! Functions whose return addresses must not be replaced, and such as have none, by name.

/// Functions that look at their caller's address or return twice: their return address has to be
/// what it is. Where they leave, they may be probed.
const LOOK_AT_CALLER: &[&str] = &[
    // They save where they return to, and return there again.
    "setjmp",
    "_setjmp",
    "__setjmp",
    "sigsetjmp",
    "__sigsetjmp",
    "getcontext",
    "__getcontext",
    "swapcontext",
    "__swapcontext",
    "setcontext",
    "__setcontext",
    "makecontext",
    "__makecontext",
    // The child runs on the parent's stack, or on another one.
    "vfork",
    "__vfork",
    "__libc_vfork",
    "clone",
    "__clone",
    "clone3",
    "__clone3",
    "__clone_internal",
    // They find out who called them.
    "dlopen",
    "dlmopen",
    "dlsym",
    "dlvsym",
    "__libc_dlopen_mode",
    "__libc_dlsym",
    "_dl_sym",
    "_dl_vsym",
    "_Unwind_Backtrace",
    "_Unwind_RaiseException",
    "_Unwind_Resume",
    "_Unwind_Resume_or_Rethrow",
    "_Unwind_ForcedUnwind",
    "_Unwind_Find_FDE",
    "__cyg_profile_func_enter",
];

/// Functions that are not called, or as no other is: only their entries are probed, and the report
/// says so.
const ENTRY_ONLY: &[&str] = &[
    "mcount",
    "_mcount",
    "__fentry__",
    "__start_context",
    "_start",
    "__restore_rt",
    "_dl_start",
    "_dl_start_user",
    "_dl_runtime_resolve",
    "_dl_runtime_resolve_fxsave",
    "_dl_runtime_resolve_xsave",
    "_dl_runtime_resolve_xsavec",
    "_dl_runtime_profile",
    "_dl_tlsdesc_return",
    "_dl_tlsdesc_dynamic",
    "_dl_tlsdesc_undefweak",
];

/// Whether a function of this name (without version) looks at its caller, so that its return
/// address must not be replaced.
pub fn looks_at_caller(name: &str) -> bool {
    LOOK_AT_CALLER.contains(&name)
}

/// Whether only the entry of a function of this name (without version) is probed.
pub fn is_entry_only(name: &str) -> bool {
    ENTRY_ONLY.contains(&name)
}
