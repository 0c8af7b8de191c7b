//! Reports as text.

mod columns;
mod diff;
mod fields;
mod footer;
mod histogram;
pub(crate) mod recording;
mod table;
mod tree;

pub(crate) use diff::diff;
pub(crate) use fields::fields;
pub(crate) use footer::{Share, footer};
pub(crate) use table::{Look, table};
pub(crate) use tree::tree;

#[cfg(test)]
mod tests;
