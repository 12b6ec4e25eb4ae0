use mp::{Error, Value};

struct Stats {
    total: Value<f64>,
    hits: (Value<u64>, Value<u64>),
    rows: Vec<Value<u64>>,
}

mod statics {
    mp::shared! { pub static HITS: u64 = 0; }
}

use statics::HITS;

impl Stats {
    fn rows(&self) -> &[Value<u64>] {
        &self.rows
    }

    fn add(&self, total: Value<f64>) -> Result<(), Error> {
        mp::locked!(self.total => *total += 1.0)?;
        mp::locked!(total, self.hits.1, HITS => *total += 1.0)?;
        mp::locked!(statics::HITS, self.rows[0], &self.rows()[1], total.clone() => ())?;
        mp::locked!(self, { &total }, total as u32 => ())?;
        mp::locked!(HITS = HITS => *HITS += 1)?;
        mp::locked!(mut total, mut hits = HITS => *total += 1.0)?;
        mp::locked!(_ = total => ())?;
        mp::locked!(total, hits = HITS, total = self.total => *total += 1.0)?;
        mp::locked!(hits = HITS => *hits += 1)
    }
}

fn main() {}
