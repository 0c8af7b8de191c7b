//! What depends on the processor.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("the probe engine is for x86-64 Linux");

pub(crate) mod x86_64;
