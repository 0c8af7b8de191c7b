//! The library behind the command line `trapline`.
#![deny(unsafe_code)]
#![allow(dead_code)]
mod exit;
mod glob;
mod human;
mod names;
mod pattern;
mod select;
mod spec;
mod symbols;
