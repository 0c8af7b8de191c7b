//! The configuration that requests use, and how many of them there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One configuration.
#[derive(Debug)]
pub(super) struct Config {
    /// Its number, from 0.
    pub(super) number: u64,
    gone: Arc<AtomicU64>,
}

impl Drop for Config {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Ordering::Relaxed); // a statistic
    }
}

/// Makes them.
#[derive(Debug, Default)]
pub(super) struct Maker {
    made: u64,
    gone: Arc<AtomicU64>,
}

impl Maker {
    /// The next one.
    pub(super) fn next(&mut self) -> Config {
        self.made += 1;
        Config { number: self.made - 1, gone: Arc::clone(&self.gone) }
    }

    /// How many there are beside the current one.
    pub(super) fn held(&self) -> u64 {
        (self.made - 1).saturating_sub(self.gone.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::Maker;

    #[test]
    fn what_is_kept_is_counted() {
        let mut maker = Maker::default();
        let (first, second) = (maker.next(), maker.next());
        assert_eq!((first.number, second.number, maker.held()), (0, 1, 1));
        drop(first);
        assert_eq!(maker.held(), 0);
    }
}
