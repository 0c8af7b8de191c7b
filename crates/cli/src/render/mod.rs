//! Reports as text.

mod columns;
mod diff;
mod fields;
mod footer;
mod histogram;
mod table;

pub(crate) use diff::diff;
pub(crate) use fields::fields;
pub(crate) use footer::{Share, footer};
pub(crate) use table::{Look, table};

#[cfg(test)]
mod tests;
