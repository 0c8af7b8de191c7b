//! Objects that are made and retired without malloc.

use reclaim::hazptr::{self, Head};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

const ALIVE: u64 = 0xA11C_E5A1_1CE5_A11C;

/// Lives in a fixed set and is taken and given back there, so that signal handlers can make and
/// retire objects without malloc.
pub(crate) struct Object {
    canary: AtomicU64,
    taken: AtomicBool,
    head: Head,
}

// SAFETY: `head` is a field.
unsafe impl hazptr::Retirable for Object {
    fn head(this: *mut Self) -> *mut Head {
        // SAFETY: points to an object; no reference is made.
        unsafe { &raw mut (*this).head }
    }

    unsafe fn reclaim(this: *mut Self) {
        // SAFETY: objects are never freed.
        let object = unsafe { &*this };
        assert_eq!(object.canary.swap(0, Ordering::Relaxed), ALIVE);
        object.taken.store(false, Ordering::Release);
    }
}

/// Where they live.
pub(crate) struct Set {
    objects: Box<[Object]>,
    /// The search begins here, one further each time: whoever still looks at an object that was
    /// reclaimed finds it so, and not taken again.
    next: AtomicUsize,
}

impl Set {
    pub(crate) fn new(objects: usize) -> &'static Self {
        let object = || Object {
            canary: AtomicU64::new(0),
            taken: AtomicBool::new(false),
            head: Head::new(),
        };
        let objects = (0..objects).map(|_| object()).collect();
        Box::leak(Box::new(Self { objects, next: AtomicUsize::new(0) }))
    }

    /// Signal-safe.
    pub(crate) fn take(&self) -> Option<*mut Object> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.objects.len();
        let (before, behind) = self.objects.split_at(first);
        let object = behind
            .iter()
            .chain(before)
            .find(|o| !o.taken.load(Ordering::Relaxed) && !o.taken.swap(true, Ordering::Acquire))?;
        object.canary.store(ALIVE, Ordering::Relaxed);
        Some(ptr::from_ref(object).cast_mut())
    }
}

pub(crate) fn check(object: Option<&Object>) {
    if let Some(o) = object {
        assert_eq!(o.canary.load(Ordering::Relaxed), ALIVE, "a protected object was reclaimed");
    }
}
