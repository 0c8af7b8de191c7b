//! What threads share: the modules of `std::sync` that the model has.

pub mod atomic;
