//! Probes that stay when the command line has ended, and what they have counted.

use super::armed::Armed;
use super::attached::{self, Keep, look};
use super::limits;
use super::loaded::Objects;
use super::server::{Server, State};
use super::tables::{Room, Tables};
use crate::model::meta::Meta;
use crate::processes;
use anyhow::{Context as _, anyhow};

/// Arms a process, and leaves it so: how many functions that are.
///
/// # Errors
/// Why it is as before.
pub(crate) fn begin(
    pid: i32,
    specs: &[String],
    budget: u64,
    force: bool,
) -> anyhow::Result<(String, usize)> {
    limits::check(limits::NOT_TOUCHED)?;
    let mut objects = Objects::default();
    let candidates = look(&[pid], force, &mut objects)?;
    let resolution = attached::resolve(objects, specs)?;
    let room = Room { budget, ..Room::default() };
    let tables = Tables::create(&resolution, &room)?;
    let command = processes::command(&[pid], &[]);
    tables.segment.set_meta(&Meta::in_background(&command, specs.to_vec()).bytes());
    let server = Server::new(resolution, &tables);
    // Nobody is going to answer what comes later.
    (0..tables.segment.objects_len()).for_each(|object| {
        tables.segment.set_hooks(object, Default::default());
    });
    tables.check_budget()?;
    let readable = tables.read_only()?;
    for candidate in candidates {
        candidate.enter([&readable, tables.counters()], Keep::Files)?.stay();
    }
    let armed = server.state().armed.len();
    let is_armed = |index: &usize| tables.segment.state(*index) == wire::State::Detour;
    Ok((processes::name(pid), (0..armed).filter(is_armed).count()))
}

/// What is counted in a process, with the names of functions from its files.
///
/// # Errors
/// They cannot be read, or are others by now.
pub(crate) fn state(armed: &Armed) -> anyhow::Result<State> {
    let tables = armed.tables.as_ref().map_err(|why| anyhow!("{why:#}"))?;
    let meta = armed.meta.as_ref().context("nothing says what is counted in it")?;
    let mut objects = Objects::default();
    objects.add(armed.pid)?;
    State::again(attached::resolve(objects, &meta.specs)?, tables)
}
