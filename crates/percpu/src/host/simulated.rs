//! A modelled machine, whose threads say when they end.

use core::ffi::c_void;

type Destructor = extern "C" fn(*mut c_void);

/// The end of threads.
pub(crate) struct ThreadEnd {
    destructor: Destructor,
}

impl ThreadEnd {
    pub(crate) const fn new(destructor: Destructor) -> Self {
        Self { destructor }
    }

    /// There is nothing to create.
    pub(crate) fn create(&self) -> bool {
        true
    }

    /// The destructor will run when this thread ends.
    pub(crate) fn arm(&self) -> bool {
        coresim::thread::at_end(self.destructor);
        true
    }
}
