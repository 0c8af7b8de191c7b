//! A plain table of numbers, for what is not nanoseconds per operation.

use serde::Serialize;

/// Rows of numbers under named columns.
#[derive(Clone, Debug, Serialize)]
pub struct Sheet {
    /// What the table shows.
    pub title: String,
    /// Names of the numbers, with their unit.
    pub columns: Vec<String>,
    /// One per subject.
    pub rows: Vec<SheetRow>,
    /// How to read it.
    pub notes: Vec<String>,
}

/// One subject's numbers.
#[derive(Clone, Debug, Serialize)]
pub struct SheetRow {
    /// The subject.
    pub name: String,
    /// One per column; `None` where there is nothing to say.
    pub values: Vec<Option<f64>>,
    /// A remark behind the numbers.
    pub remark: String,
}

impl Sheet {
    /// An empty sheet.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Appends a row.
    pub fn row(&mut self, name: &str, values: Vec<Option<f64>>, remark: &str) {
        debug_assert_eq!(values.len(), self.columns.len(), "one value per column");
        self.rows.push(SheetRow { name: name.to_owned(), values, remark: remark.to_owned() });
    }
}
