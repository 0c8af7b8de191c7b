//! The shared object that trapline puts inside a program.
#![deny(unsafe_code)]
