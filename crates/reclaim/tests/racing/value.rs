//! What is handed from thread to thread.

/// Plain memory, which a sanitizer watches: whoever reads it while it is dropped has been
/// betrayed.
pub(crate) struct Value {
    pub(crate) number: u64,
    pub(crate) copies: Vec<u64>,
}

impl Value {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, copies: vec![number; 3] }
    }

    pub(crate) fn check(&self) {
        assert!(self.copies.iter().all(|copy| *copy == self.number));
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.check();
        self.number = u64::MAX;
    }
}
