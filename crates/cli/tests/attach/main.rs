//! Processes that run already: what is counted in them is what they did, and they do not notice.

#[path = "../common/mod.rs"]
mod common;

mod background;
mod chosen;
mod ends;
mod go;
mod harm;
mod interrupted;
mod kinds;
mod later;
mod launched;
mod limits;
mod quiet;
mod refused;
mod running;
mod servers;
mod stacks;
