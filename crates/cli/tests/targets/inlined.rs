//! A method and a generic function that are only inlined.
mod app {
    pub struct Counter(pub u64);
    impl Counter {
        #[inline(always)]
        pub fn bump(&mut self, n: u64) -> u64 {
            self.0 = std::hint::black_box(self.0 + n);
            self.0
        }
    }
}

#[inline(never)]
fn all(n: u64) -> u64 {
    let mut counter = app::Counter(n);
    counter.bump(1) + counter.bump(2)
}

fn main() {
    println!("{}", all(std::hint::black_box(1)));
}
