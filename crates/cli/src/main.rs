//! `trapline`.
fn main() {}
