//! What is to be done for a target.

use crate::Refusal;
use alloc::boxed::Box;
use patch::Plan;

/// A plan, and where, by what was found, the program branches to in its window; nothing, if that
/// was looked for elsewhere. In a box: there are thousands at a time, in lists that move them.
pub(crate) type Planned = Result<(Box<Plan>, Option<Box<[u64]>>), Refusal>;
