//! What has to be known of an address to get from its frame to the caller's, in one word.
//!
//! Of the registers only the stack pointer and the frame pointer are followed: compilers describe
//! frames by no others, but for a few functions in assembly.

/// How a frame's values are found. CFA is the canonical frame address: what the stack pointer is in
/// the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// CFA = stack pointer + offset.
    Sp { cfa: i64, bp: Saved },
    /// CFA = frame pointer + offset.
    Bp { cfa: i64, bp: Saved },
    /// CFA is the word at frame pointer + offset: a function that has aligned its stack.
    Aligned { cfa: i64, bp: Saved },
    /// A signal handler's frame, as the kernel makes it.
    Signal,
    /// There is no caller.
    Outermost,
    /// Nothing describes the address.
    NoTable,
    /// What describes it uses more than this crate knows.
    Unsupported,
}

/// Where a frame keeps its caller's frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// In the register: it is the same.
    Kept,
    /// In memory at this distance: from the CFA, or in [`Rule::Aligned`] from the frame pointer.
    At(i64),
}

/// Kinds, in the low bits of a packed rule. 0 is no rule.
pub(crate) const SP: u64 = 1;
pub(crate) const BP: u64 = 2;
pub(crate) const ALIGNED: u64 = 3;
pub(crate) const SIGNAL: u64 = 4;
pub(crate) const OUTERMOST: u64 = 5;
pub(crate) const NO_TABLE: u64 = 6;
pub(crate) const UNSUPPORTED: u64 = 7;
const KIND: u64 = 7;
/// Set in the upper half: the frame pointer is in memory.
const SAVED: u64 = 1 << 32;
/// Set in the upper half of a [`SIGNAL`]: it is none, but a frame that stacks do not show, by stack
/// pointer or by frame pointer.
const UNSEEN_SP: u64 = 1 << 33;
const UNSEEN_BP: u64 = 1 << 34;

/// A rule in a word: in the lower half the CFA's offset, which is a multiple of 8, and the kind; in
/// the upper half where the frame pointer is, likewise, and whether. A walk has to wait for the
/// CFA's offset before it can go on, so that one costs a load and an `and`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed(pub(crate) u64);

impl Packed {
    /// Offsets that are too large, or odd, make it unsupported.
    pub(crate) fn new(rule: Rule) -> Self {
        let with = |kind: u64, cfa: i64, bp: Saved| {
            let (flag, at) = match bp {
                Saved::Kept => (0, 0),
                Saved::At(at) => (SAVED, at),
            };
            match (i32::try_from(cfa), i32::try_from(at)) {
                (Ok(cfa), Ok(at)) if cfa & 7 == 0 && at & 7 == 0 => Self(
                    u64::from(at.cast_unsigned()) << 32
                        | flag
                        | u64::from(cfa.cast_unsigned())
                        | kind,
                ),
                _ => Self(UNSUPPORTED),
            }
        };
        match rule {
            Rule::Sp { cfa, bp } => with(SP, cfa, bp),
            Rule::Bp { cfa, bp } => with(BP, cfa, bp),
            Rule::Aligned { cfa, bp } => with(ALIGNED, cfa, bp),
            Rule::Signal => Self(SIGNAL),
            Rule::Outermost => Self(OUTERMOST),
            Rule::NoTable => Self(NO_TABLE),
            Rule::Unsupported => Self(UNSUPPORTED),
        }
    }

    /// The rule for a frame that stacks do not show. It is of the kind that walks seldom meet, so
    /// that the others pay nothing for it. Functions that have aligned their stack in the way of
    /// [`ALIGNED`] cannot be left out.
    pub(crate) fn unseen(self) -> Self {
        match self.kind() {
            SP => Self(self.0 & !KIND | SIGNAL | UNSEEN_SP),
            BP => Self(self.0 & !KIND | SIGNAL | UNSEEN_BP),
            ALIGNED => Self(UNSUPPORTED),
            _ => self,
        }
    }

    /// The rule itself, of a frame that stacks do not show.
    pub(crate) fn of_unseen(self) -> Option<Self> {
        let plain = Self(self.0 & !(KIND | UNSEEN_SP | UNSEEN_BP));
        match self.0 & (UNSEEN_SP | UNSEEN_BP) {
            UNSEEN_SP => Some(Self(plain.0 | SP)),
            UNSEEN_BP => Some(Self(plain.0 | BP)),
            _ => None,
        }
    }

    #[inline(always)]
    pub(crate) fn kind(self) -> u64 {
        self.0 & KIND
    }

    /// Offset of the CFA, or of the word that holds it.
    #[inline(always)]
    pub(crate) fn cfa(self) -> u64 {
        (self.0 as i32 & !7) as i64 as u64
    }

    /// Whether the caller's frame pointer is in memory.
    #[inline(always)]
    pub(crate) fn saves_bp(self) -> bool {
        self.0 & SAVED != 0
    }

    /// Where that is.
    #[inline(always)]
    pub(crate) fn bp(self) -> u64 {
        ((self.0 >> 32) as i32 & !7) as i64 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_survive_packing() {
        for cfa in [0, 8, 16, -8, 4096, (1 << 31) - 8, -(1 << 31)] {
            for bp in
                [Saved::Kept, Saved::At(0), Saved::At(-16), Saved::At(8), Saved::At(-(1 << 31))]
            {
                for (rule, kind) in [
                    (Rule::Sp { cfa, bp }, SP),
                    (Rule::Bp { cfa, bp }, BP),
                    (Rule::Aligned { cfa, bp }, ALIGNED),
                ] {
                    let packed = Packed::new(rule);
                    assert_eq!((packed.kind(), packed.cfa() as i64), (kind, cfa));
                    let saved =
                        if packed.saves_bp() { Saved::At(packed.bp() as i64) } else { Saved::Kept };
                    assert_eq!(saved, bp);
                    let unseen = packed.unseen();
                    if kind == ALIGNED {
                        assert_eq!(unseen.kind(), UNSUPPORTED);
                    } else {
                        assert_eq!((unseen.kind(), unseen.of_unseen()), (SIGNAL, Some(packed)));
                    }
                    assert_eq!(packed.of_unseen(), None);
                }
            }
        }
        assert_eq!(Packed::new(Rule::Signal).of_unseen(), None);
        assert_eq!(Packed::new(Rule::Sp { cfa: 1 << 31, bp: Saved::Kept }).kind(), UNSUPPORTED);
        assert_eq!(Packed::new(Rule::Sp { cfa: 8, bp: Saved::At(1 << 40) }).kind(), UNSUPPORTED);
        assert_eq!(Packed::new(Rule::Sp { cfa: 12, bp: Saved::Kept }).kind(), UNSUPPORTED);
    }
}
