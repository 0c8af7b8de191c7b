//! The operations of atomic types, and what each needs.

use crate::line::Access;
use crate::world::Operation;
use core::sync::atomic::Ordering;

/// A load, of any ordering.
pub(crate) const LOAD: Operation =
    Operation { name: "load", access: Access::Read, cost: |costs| costs.hit };

/// A store, but for a sequentially consistent one.
pub(crate) const STORE: Operation =
    Operation { name: "store", access: Access::Write, cost: |costs| costs.hit };

const STORE_SEQ_CST: Operation = Operation { cost: |costs| costs.store_seq_cst, ..STORE };

/// A store.
#[inline]
pub(crate) const fn store(order: Ordering) -> &'static Operation {
    match order {
        Ordering::SeqCst => &STORE_SEQ_CST,
        _ => &STORE,
    }
}

/// A read-modify-write that is not locked.
pub(crate) const ADD: Operation = Operation { name: "add", ..STORE };

/// A locked read-modify-write.
pub(crate) const fn locked(name: &'static str) -> Operation {
    Operation { name, access: Access::Write, cost: |costs| costs.locked }
}

/// Plain data is read.
pub(crate) const READ: Operation = Operation { name: "read", ..LOAD };

/// Plain data is written.
pub(crate) const WRITE: Operation = Operation { name: "write", ..STORE };
