//! `trapline ps`: the processes with probes in them.

use crate::model::ps::Row;
use crate::out::Out;
use crate::render;
use crate::run::armed::{self, Armed};
use crate::run::snapshot;
use anyhow::Context as _;
use std::time::{SystemTime, UNIX_EPOCH};
use wire::{Loss, State};

pub(crate) fn run(json: bool) -> anyhow::Result<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let rows: Vec<Row> = armed::all().iter().map(|armed| row(armed, now)).collect();
    let mut out = Out::stdout()?;
    if json {
        for row in &rows {
            out.line(&serde_json::to_string(row).context("writing JSON")?);
        }
    } else {
        render::ps(&rows).iter().for_each(|line| out.line(line));
    }
    out.finish().map(|()| 0)
}

fn row(armed: &Armed, now: u64) -> Row {
    let mut row = Row {
        process: armed.pid.cast_unsigned(),
        name: armed.name.clone(),
        trapline: armed.owner(),
        ..Row::default()
    };
    let tables = match &armed.tables {
        Ok(tables) => tables,
        Err(why) => return Row { why: Some(format!("{why:#}")), ..row },
    };
    let segment = &tables.segment;
    let counters = snapshot::all(tables);
    let is_armed = |index: &usize| matches!(segment.state(*index), State::Detour);
    row.functions = Some((0..segment.functions_len()).filter(is_armed).count() as u64);
    row.hits = Some(counters.iter().fold(0, |sum, its| u64::saturating_add(sum, its.calls)));
    row.lost = Some(Loss::ALL.iter().fold(0, |sum, why| sum + segment.lost(*why)));
    row.memory = Some(segment.agent_bytes().saturating_add(tables.bytes()));
    let meta = armed.meta.as_ref();
    row.age_s = meta.map(|meta| now.saturating_sub(meta.started));
    row.background = meta.is_some_and(|meta| meta.background);
    row.specs = meta.map(|meta| meta.specs.clone()).unwrap_or_default();
    row
}
