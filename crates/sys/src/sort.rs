//! Sorting in a few hundred bytes of code, for images: the standard library's sorts are faster, and
//! each use of one is 4 to 8 KiB.

/// Sorts by a key, in place; equal ones come in any order. Heapsort: n log n steps at most.
///
/// # Context
/// Signal-safe: no allocation, no system call.
///
/// # Examples
/// ```
/// let mut words = ["ccc", "a", "bb"];
/// sys::sort::by_key(&mut words, |word| word.len());
/// assert_eq!(words, ["a", "bb", "ccc"]);
/// ```
pub fn by_key<T, K: Ord>(all: &mut [T], key: impl Fn(&T) -> K) {
    let sink = |all: &mut [T], mut at: usize| {
        loop {
            let mut child = 2 * at + 1;
            if child >= all.len() {
                return;
            }
            child += usize::from(child + 1 < all.len() && key(&all[child]) < key(&all[child + 1]));
            if key(&all[child]) <= key(&all[at]) {
                return;
            }
            all.swap(at, child);
            at = child;
        }
    };
    for at in (0..all.len() / 2).rev() {
        sink(all, at);
    }
    for end in (1..all.len()).rev() {
        all.swap(0, end);
        sink(&mut all[..end], 0);
    }
}

#[cfg(test)]
mod tests {
    use super::by_key;

    #[test]
    fn all_orders_of_six_and_one_of_many() {
        let mut digits = [0_u32; 6];
        for mut n in 0..6_usize.pow(6) {
            for digit in &mut digits {
                (*digit, n) = ((n % 6) as u32, n / 6);
            }
            let mut sorted = digits;
            by_key(&mut sorted, |digit| *digit);
            let mut expected = digits;
            expected.sort_unstable();
            assert_eq!(sorted, expected);
        }
        let mut many: [u64; 1000] = core::array::from_fn(|n| n as u64 * 7919 % 1009);
        by_key(&mut many, |n| core::cmp::Reverse(*n));
        assert!(many.is_sorted_by(|a, b| a >= b));
        by_key(&mut many[..0], |n| *n);
    }
}
