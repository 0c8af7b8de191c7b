//! How a function of a running program can be patched: decode, relocate, choose the method; pure, touches no process
#![deny(unsafe_code)]
