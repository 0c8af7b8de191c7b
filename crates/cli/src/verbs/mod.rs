//! The verbs, one file each.

pub(crate) mod attach;
pub(crate) mod completions;
pub(crate) mod detach;
pub(crate) mod doctor;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod ps;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod stat;
