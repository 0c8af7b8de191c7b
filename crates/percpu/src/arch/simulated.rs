//! A modelled machine.

pub(crate) mod area;
pub(crate) mod sequence;
pub(crate) mod tls;
