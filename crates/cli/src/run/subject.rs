//! What is traced: a program that was started for it, or processes that ran already.

use super::agent::Place;
use super::attached::{Attached, leave_children};
use super::tables::Tables;
use crate::model::outside;
use crate::processes;
use crate::sys;
use anyhow::Context as _;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempPath;

/// What is traced.
#[derive(Debug)]
pub(super) enum Subject {
    Started(Started),
    /// A program that was started with the image in it.
    Launched(Child, Option<Attached>),
    /// Processes, and whether they were entered in spite of filters.
    Attached(Vec<Attached>, bool),
}

/// A program that was started with the agent in it.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    /// How often an agent got the segment.
    pub(super) handed_out: Arc<AtomicU64>,
    /// Programs that are executed during the run ask there for the segment.
    pub(super) _socket: TempPath,
    /// Programs that are executed during the run load it, too.
    pub(super) _agent: Place,
}

/// Nothing is left that could count.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The program that was started has ended so.
    Child(ExitStatus),
    /// All processes that ran already have ended.
    All,
}

impl Subject {
    /// The end, if it has come.
    ///
    /// # Errors
    /// The child cannot be waited for.
    pub(super) fn end(&mut self) -> anyhow::Result<Option<End>> {
        match self {
            Self::Started(started) => {
                let status = sys::end_of(&mut started.child).context("waiting for the program")?;
                Ok(status.map(End::Child))
            }
            Self::Launched(child, _) => {
                let status = sys::end_of(child).context("waiting for the program")?;
                Ok(status.map(End::Child))
            }
            Self::Attached(all, _) => Ok(all.iter().all(Attached::has_ended).then_some(End::All)),
        }
    }

    /// Whether trapline ends with the program, and not with the tracing.
    pub(super) fn is_waited_for(&self) -> bool {
        matches!(self, Self::Started(_) | Self::Launched(..))
    }

    /// The tracing is over: processes that ran already get their code back, and so do fork children
    /// of theirs that have the counters mapped.
    pub(super) fn leave(&mut self, tables: &Tables) {
        let (all, force) = match self {
            Self::Started(_) => return,
            Self::Launched(_, inside) => (&mut inside.as_mut_slice()[..], true),
            Self::Attached(all, force) => (&mut all[..], *force),
        };
        all.iter_mut().for_each(Attached::leave);
        let known = all.iter().map(Attached::pid).collect();
        leave_children(tables.counters(), known, force, |pid| {
            let process = pid.cast_unsigned();
            tables.note_left(outside::StillRunning { process, name: processes::name(pid) });
        });
    }

    /// Processes whose code could not be put back, once they were left.
    pub(super) fn probed(&self) -> usize {
        self.attached().iter().filter(|one| one.after == outside::After::Probed).count()
    }

    /// What there is to be said of processes with the image in them, once they were left.
    pub(super) fn attached(&self) -> Vec<outside::Attached> {
        match self {
            Self::Started(_) => Vec::new(),
            Self::Launched(_, inside) => inside.iter().map(Attached::row).collect(),
            Self::Attached(all, _) => all.iter().map(Attached::row).collect(),
        }
    }

    /// Whether no agent has come for the segment.
    pub(super) fn was_handed_nothing(&self) -> bool {
        match self {
            // Relaxed: no more than a number.
            Self::Started(started) => started.handed_out.load(Ordering::Relaxed) == 0,
            Self::Launched(..) | Self::Attached(..) => false,
        }
    }
}
