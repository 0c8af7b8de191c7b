//! What a benchmark says in the end: groups of rows, plain sheets of numbers, and the targets. The
//! same structure is the JSON and the source of the text.

mod model;
mod save;
mod sheet;
mod target;
mod text;

pub use model::{Group, Report, Row};
pub use save::save;
pub use sheet::{Sheet, SheetRow};
pub use target::{Bound, Target, Verdict};
pub use text::{render, render_targets};
