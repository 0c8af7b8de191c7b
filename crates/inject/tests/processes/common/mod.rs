//! Programs and images, built once, and running programs.

mod build;
mod hook;
mod running;

pub(crate) use build::{Kind, give_image, image, image_file, missing, program};
pub(crate) use hook::Hook;
pub(crate) use running::{Running, snapshot, state};
