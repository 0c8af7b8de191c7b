//! Names of functions as people write them: demangled C++ and Rust, without the compiler's
//! additions.
//!
//! A symbol has one name that is shown ([`display`]) and many under which it is found
//! ([`each_spelling`]): whatever of it was printed somewhere is among them.

mod demangle;
mod fit;
mod generics;
mod spelling;
mod standard;

pub(crate) use demangle::{is_cold_part, original, unversioned};
pub(crate) use fit::fit;
pub(crate) use generics::without_generics;
pub(crate) use spelling::{
    Parts, bare_forms, display, each_spelling, elided, exact, forms, full, is_mangled, short,
    with_parts,
};

#[cfg(test)]
mod tests;
