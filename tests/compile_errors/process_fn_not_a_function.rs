#[mp::process_fn]
pub struct Job {
    size: u32,
}

#[mp::process_fn]
const SQUARE: fn(u32) -> u32 = |x| x * x;

trait Work {
    #[mp::process_fn]
    fn work();
}

fn main() {
    let _ = Job { size: 1 }.size;
    let _ = SQUARE(2);
}
