//! Stacks that a thread has met before (to come).

#[derive(Debug, Default)]
pub(crate) struct Same;
