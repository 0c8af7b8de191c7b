//! What only the process around can say: where a thread's words are, when it ends, where its
//! restartable-sequence area lies.
//!
//! With the feature `std` (or rather, with a C library) nothing is to be done here: the words are
//! thread-local storage, a pthread key notices the end of threads, `pthread_atfork` forks.
//!
//! Without it this crate makes system calls only, and knows no threads: it is for images that are
//! put into processes from outside. Such an image calls `supply` before anything else of this crate
//! and of those that stand on it; the items are in the documentation of builds with
//! `--no-default-features`. A thread's words are found by 32 bits beside its thread pointer which
//! the C library has no use for. Ends of threads are not noticed: words outlive a thread, and serve
//! the next one on the same control block (`tls::thread_has_ended`). A fork child is found by
//! memory that it finds wiped (`MADV_WIPEONFORK`), in which the words lie, too.

#[cfg(all(feature = "std", not(simulated)))]
mod c_library;
#[cfg(all(feature = "std", not(simulated)))]
pub(crate) use c_library::{ThreadEnd, cpu};

#[cfg(all(not(feature = "std"), not(simulated)))]
pub(crate) mod freestanding;
#[cfg(all(not(feature = "std"), not(simulated)))]
pub use freestanding::{
    Area, Host, Place, Words, all_words, distance, known_words, own_words, supply,
};
#[cfg(all(not(feature = "std"), not(simulated)))]
pub(crate) use freestanding::{ThreadEnd, cpu, slots};

#[cfg(simulated)]
mod simulated;
#[cfg(simulated)]
pub(crate) use simulated::ThreadEnd;
