//! When not to try: where stacks change more often than they are met again, remembering them costs
//! more than it saves.

/// After so many failures in a row it is not tried for a while, each time twice as long.
const FAILURES: u32 = 4;
const REST: u32 = 256;
const LONGEST_REST: u32 = 1 << 15;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    /// Hits to let pass.
    rest: u32,
    /// How many those will be the next time.
    next: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { failures: 0, rest: 0, next: REST }
    }
}

impl Backoff {
    /// Whether to let this hit pass.
    #[inline(always)]
    pub(crate) fn rests(&mut self) -> bool {
        if self.rest == 0 {
            return false;
        }
        self.rest -= 1;
        true
    }

    #[inline(always)]
    pub(crate) fn success(&mut self) {
        // Mostly there is nothing to write, and the next hit need not wait for it.
        if self.failures > 0 || self.next > REST {
            (self.failures, self.next) = (0, REST);
        }
    }

    /// True: that was one too many.
    pub(crate) fn failure(&mut self) -> bool {
        self.failures += 1;
        if self.failures <= FAILURES {
            return false;
        }
        (self.failures, self.rest) = (0, self.next);
        self.next = (self.next * 2).min(LONGEST_REST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FAILURES, LONGEST_REST, REST};

    /// Fails until it rests; for how long.
    fn rest(backoff: &mut Backoff) -> u32 {
        assert!((0..FAILURES).all(|_| !backoff.failure()));
        assert!(!backoff.rests());
        assert!(backoff.failure());
        (0_u32..).take_while(|_| backoff.rests()).count() as u32
    }

    #[test]
    fn rests_grow_until_there_is_a_success() {
        let mut backoff = Backoff::default();
        assert_eq!(
            (rest(&mut backoff), rest(&mut backoff), rest(&mut backoff)),
            (REST, 2 * REST, 4 * REST)
        );
        backoff.success();
        assert_eq!(rest(&mut backoff), REST);
        (0..12).for_each(|_| _ = rest(&mut backoff));
        assert_eq!(rest(&mut backoff), LONGEST_REST);
    }
}
