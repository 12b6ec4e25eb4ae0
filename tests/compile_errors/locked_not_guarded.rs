use std::sync::atomic::AtomicU64;

struct Stats {
    count: u32,
}

impl Stats {
    fn count(&self, step: u32) -> u32 {
        self.count + step
    }
}

fn main() {
    let number = 1;
    let total = mp::shared!(0.0).unwrap();
    let stats = Stats { count: 0 };
    let _ = mp::locked!(number => *number);
    let _ = mp::locked!(total, count = stats.count(1 + 1) => *total += f64::from(*count));
    let atomic = mp::Shared::new(AtomicU64::new(0)).unwrap();
    let _ = mp::locked!(total, atomic, count = stats.count => *count);
    let std = std::sync::Mutex::new(1);
    let _ = mp::locked!(std => *std);
}
