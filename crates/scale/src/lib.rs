//! How trapline's primitives scale: their own code on modelled machines of up to 1,024 CPUs, beside
//! the figures that others have posted of real ones.
//!
//! # What you give and get
//! A [`Table`](tables::Table) is a machine, numbers of threads and schemes. [`Results::run`] runs
//! its cells, each in a process of its own; [`text::render`] shows them with the posted figures
//! below and, for each scheme, the line and the operation that stop it; [`picture::render`] draws
//! them. All of it is the same in every run.
//!
//! ```text
//! cargo run --release -p trapline-bench -- scale arm64
//! ```
//!
//! # The primitives on the model
//! The packages below `simulated/` are the sources of percpu, objpool, reclaim and stackdepot,
//! built with `--cfg simulated` (their build script says so), which makes coresim's machine the
//! third body of `percpu::sync`. No other build of them knows of it, and both builds can be in one
//! program.
//!
//! # When not
//! A figure of one CPU is a sum of accesses, without a pipeline: within a factor of two or so of
//! what is measured. What counts is how figures change with the number of CPUs.
#![deny(unsafe_code)]

pub mod cell;
pub mod held;
mod load;
pub mod machines;
pub mod picture;
mod results;
pub mod schemes;
pub mod tables;
pub mod text;

pub use load::Load;
pub use results::{Comparison, Prediction, Results, STOPPED};
