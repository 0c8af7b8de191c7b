//! What can go wrong, which is mostly the caller.

use core::fmt;

/// A use that the state of the reference count does not allow. Unless said otherwise nothing was
/// changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no reference: `get` without holding one, `resurrect` or `switch_to_percpu` after
    /// the last was put.
    Zero,
    /// `put` of more references than there are, or, in per-CPU mode, of 2^61 more to the shared
    /// word than were taken there.
    Underflow,
    /// `get` of more than 2^61 references in all, as far as they are in the shared word: all of
    /// them in atomic mode, those taken more than 32 at a time in per-CPU mode.
    Overflow,
    /// `kill` of a reference count that is dying already.
    AlreadyDead,
    /// `reinit` or `resurrect` of one that is not dying.
    NotDead,
    /// `reinit` while references are held.
    NotZero,
    /// `reinit` or `resurrect` of one made without
    /// [`Options::allow_reinit`](super::Options::allow_reinit).
    NotReinitable,
    /// The switch to atomic mode found fewer references than the one that it holds itself: somebody
    /// put too often in per-CPU mode, where that cannot be seen. The object is kept for ever,
    /// because nobody knows who still uses it.
    Unbalanced,
    /// Without restartable sequences a switch waits for an RCU grace period, and the caller is
    /// inside an RCU section.
    InsideRcuSection,
    /// A fork happened while another thread was switching modes; this is the child, where that
    /// switch will not end.
    Abandoned,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zero => "there is no reference to add to",
            Self::Underflow => "more references were put than there are",
            Self::Overflow => "more references than the count has room for",
            Self::AlreadyDead => "the reference count was killed before",
            Self::NotDead => "the reference count was not killed",
            Self::NotZero => "references are still held",
            Self::NotReinitable => "the reference count was not made to be used again",
            Self::Unbalanced => {
                "more references were put than were taken, found at the switch to atomic mode"
            }
            Self::InsideRcuSection => "switching modes inside an RCU section waits for itself",
            Self::Abandoned => "a fork left a switch of modes behind unfinished",
        })
    }
}

impl core::error::Error for Error {}
