//! What the tests of the whole tool share: targets are compiled once, run bare and probed under a
//! timeout, and compared.

// Each test binary uses its own part of this.
#![allow(dead_code, unused_imports)]

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod go;
pub(crate) mod missing;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod recording;
pub(crate) mod redis;
pub(crate) mod report;
pub(crate) mod tools;

pub(crate) use build::Target;
pub(crate) use check::{Case, Mode};
pub(crate) use process::trapline;
pub(crate) use recording::Recording;
pub(crate) use report::Report;
