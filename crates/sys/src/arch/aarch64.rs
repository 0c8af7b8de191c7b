//! aarch64.

pub(crate) mod call;
pub mod number;
pub(crate) mod restorer;
mod stat;

pub use stat::Stat;

/// A multiple of it is a multiple of a page, whatever the kernel's page size.
pub const PAGE: usize = 65536;
