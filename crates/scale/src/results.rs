//! A table that was run.

use crate::cell::{Cell, Child, Outcome};
use crate::tables::{NEIGHBOURS, PREDICTED, Row, Span, Table, Unit};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// A table and what its cells found.
#[derive(Clone, Debug)]
pub struct Results {
    /// The table.
    pub table: &'static Table,
    /// Its rows.
    pub rows: Vec<Row>,
    /// The columns that were run.
    pub threads: Vec<usize>,
    /// By row and column.
    pub cells: Vec<Vec<Outcome>>,
}

/// A posted figure beside the model's.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What is compared.
    pub what: String,
    /// The model's ratio.
    pub model: f64,
    /// The posted one.
    pub posted: f64,
    /// By what factor they may differ.
    pub within: f64,
    /// Whether the calibration was fitted to a figure of it: then it guards, and validates nothing.
    pub fitted: bool,
}

/// What two CPUs pay for an operation, beside what was measured.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The scheme.
    pub scheme: &'static str,
    /// What one CPU pays: measured, and the model's sum of accesses.
    pub alone: [f64; 2],
    /// What each of two pays: measured, and predicted.
    pub together: [f64; 2],
    /// As for [`Comparison`].
    pub fitted: bool,
}

impl Prediction {
    /// How far the prediction is from the measured cost, as a part of it.
    pub fn off(&self) -> f64 {
        let [measured, predicted] = self.together;
        (predicted / measured - 1.0).abs()
    }

    /// Whether it is near enough.
    pub fn holds(&self) -> bool {
        self.off() <= PREDICTED
    }
}

impl Comparison {
    /// By what factor they differ: 1 or more.
    pub fn factor(&self) -> f64 {
        let factor = self.model / self.posted;
        factor.max(1.0 / factor)
    }

    /// Whether they differ by no more than they may.
    pub fn holds(&self) -> bool {
        self.factor() <= self.within
    }
}

impl Results {
    /// Runs a table: each cell in a process of its own, `side_by_side` at a time. Columns of more
    /// than `most` threads stay out.
    ///
    /// # Errors
    /// A process fails.
    pub fn run(
        table: &'static Table,
        most: usize,
        seed: u64,
        child: &Child,
        side_by_side: usize,
    ) -> io::Result<Self> {
        let rows: Vec<Row> = table.rows().collect();
        let threads: Vec<usize> =
            table.threads.iter().copied().filter(|threads| *threads <= most).collect();
        let cell = |scheme: &str, threads| Cell {
            machine: table.machine.to_owned(),
            scheme: scheme.to_owned(),
            threads,
            work: table.work,
            seed,
        };
        // The long ones first: nobody waits for them at the end.
        let columns = threads.iter().enumerate().rev();
        let jobs: Vec<(usize, usize, Cell)> = columns
            .flat_map(|(column, threads)| {
                let rows = rows.iter().enumerate();
                rows.map(move |(row, r)| (row, column, cell(r.scheme, *threads)))
            })
            .collect();
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|s| {
            for _ in 0..side_by_side.max(1) {
                s.spawn(|| {
                    while let Some((row, column, cell)) =
                        jobs.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let outcome = cell.run_apart(child);
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.push(((*row, *column), outcome));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(place, _)| *place);
        let outcomes: Vec<Outcome> =
            done.into_iter().map(|(_, outcome)| outcome).collect::<io::Result<_>>()?;
        let cells = outcomes.chunks(threads.len().max(1)).map(<[_]>::to_vec).collect();
        Ok(Self { table, rows, threads, cells })
    }

    /// The figure of a cell, in the table's unit.
    pub fn figure(&self, row: usize, column: usize) -> f64 {
        let outcome = &self.cells[row][column];
        match self.table.unit {
            Unit::Millions => outcome.millions,
            Unit::Nanoseconds => outcome.nanoseconds,
        }
    }

    /// What was posted for a cell.
    pub fn posted(&self, row: usize, column: usize) -> Option<f64> {
        self.rows[row].posted.get(column).copied().filter(|posted| *posted > 0.0)
    }

    /// Every ratio that was posted.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let mut comparisons = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            for column in 1..self.threads.len() {
                let posted = |column| self.posted(number, column);
                if let (Some(before), Some(after)) = (posted(column - 1), posted(column)) {
                    let [from, to] = [column - 1, column].map(|column| self.threads[column]);
                    comparisons.push(Comparison {
                        what: format!("{}, {from} to {to} threads", row.scheme),
                        model: self.figure(number, column) / self.figure(number, column - 1),
                        posted: after / before,
                        within: NEIGHBOURS,
                        fitted: row.fitted,
                    });
                }
            }
        }
        comparisons.extend(self.table.spans.iter().filter_map(|span| self.span(span)));
        comparisons
    }

    fn is_fitted(&self, scheme: &str) -> bool {
        self.rows.iter().any(|row| row.scheme == scheme && row.fitted)
    }

    /// What each of two CPUs pays, from what one was measured to pay: the model adds what it loses
    /// to lines and to the other CPU. What one pays is not predicted: the model has no pipeline, so
    /// that its own sum of accesses is off by more. Only for a table of nanoseconds whose figures
    /// were measured.
    pub fn predicted(&self) -> Vec<Prediction> {
        let column = |threads| self.threads.iter().position(|column| *column == threads);
        let (Some(one), Some(two)) = (column(1), column(2)) else { return Vec::new() };
        let predicted = |(number, row): (usize, &Row)| {
            let [alone, together] = [one, two].map(|column| self.figure(number, column));
            let measured = self.posted(number, one)?;
            Some(Prediction {
                scheme: row.scheme,
                alone: [measured, alone],
                together: [self.posted(number, two)?, measured + together - alone],
                fitted: row.fitted,
            })
        };
        self.rows.iter().enumerate().filter_map(predicted).collect()
    }

    fn span(&self, span: &Span) -> Option<Comparison> {
        let figure = |(scheme, threads): (&str, usize)| {
            let row = self.rows.iter().position(|row| row.scheme == scheme)?;
            let column = self.threads.iter().position(|column| *column == threads)?;
            Some(self.figure(row, column))
        };
        let ((of, of_threads), (to, to_threads)) = (span.of, span.to);
        Some(Comparison {
            what: format!("{of} at {of_threads} over {to} at {to_threads}"),
            model: figure(span.of)? / figure(span.to)?,
            posted: span.posted,
            within: span.within,
            fitted: [of, to].iter().any(|scheme| self.is_fitted(scheme)),
        })
    }

    /// From how many threads on a row does not scale: an operation costs more than 1.3 times what
    /// it costs one CPU. With what stops it then.
    pub fn stops(&self, row: usize) -> Option<(usize, &Outcome)> {
        let alone = self.cells[row].first()?.nanoseconds;
        let stopped = |outcome: &&Outcome| outcome.nanoseconds > STOPPED * alone;
        let column = self.cells[row].iter().position(|outcome| stopped(&outcome))?;
        // What stops it at the end says more than what disturbs it first.
        let last = self.cells[row].iter().rev().find(stopped)?;
        Some((self.threads[column], last))
    }
}

/// An operation scales while it costs no more than so many times what it costs one CPU.
pub const STOPPED: f64 = 1.3;
