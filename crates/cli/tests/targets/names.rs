//! Rust names: modules, methods, trait implementations, generics, closures.
mod app {
    pub mod db {
        pub struct Table(pub u64);
        impl Table {
            #[inline(never)]
            pub fn insert(&mut self, n: u64) -> u64 {
                self.0 = std::hint::black_box(self.0 + n);
                self.0
            }
        }
        pub trait Query {
            fn query(&self, n: u64) -> u64;
        }
        impl Query for Table {
            #[inline(never)]
            fn query(&self, n: u64) -> u64 {
                std::hint::black_box(self.0 * n)
            }
        }
        #[inline(never)]
        pub fn generic<X: std::ops::Add<Output = X> + Copy>(x: X) -> X {
            std::hint::black_box(x) + x
        }
    }
}
use app::db::Query;

fn main() {
    let mut table = app::db::Table(1);
    let mut sum = 0u64;
    for i in 0..100 {
        sum = sum.wrapping_add(table.insert(i)).wrapping_add(table.query(i));
        sum = sum.wrapping_add(app::db::generic(i));
        sum = sum.wrapping_add(app::db::generic(0.5f64) as u64);
    }
    println!("sum {sum}");
}
