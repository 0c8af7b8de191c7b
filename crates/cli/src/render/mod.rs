//! Reports as text.

pub(crate) mod columns;
mod compare;
mod diff;
mod end;
pub(crate) mod fields;
mod footer;
mod histogram;
mod outside;
mod ps;
pub(crate) mod recording;
mod table;
mod tree;

pub(crate) use compare::compare;
pub(crate) use diff::diff;
pub(crate) use footer::footer;
pub(crate) use outside::attached;
pub(crate) use ps::ps;
pub(crate) use table::{Look, table};
pub(crate) use tree::tree;

#[cfg(test)]
mod tests;
