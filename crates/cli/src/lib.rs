//! The library behind the command line `trapline`.
#![deny(unsafe_code)]
