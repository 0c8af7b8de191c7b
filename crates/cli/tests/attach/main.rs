//! Processes that run already: what is counted in them is what they did, and they do not notice.

#[path = "../common/mod.rs"]
mod common;

mod background;
mod chosen;
mod ends;
mod go;
mod harm;
mod kinds;
mod later;
mod launched;
mod refused;
mod running;
mod stacks;
