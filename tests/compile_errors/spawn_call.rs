struct Job;

impl Job {
    fn run(&self) {}
}

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

fn main() {
    let job = Job;
    let _ = mp::spawn!();
    let _ = mp::spawn!(square);
    let _ = mp::spawn!(job.run());
    let _ = mp::spawn!((|x: i64| x * x)(12));
    let _ = mp::spawn!(12);
    let _ = mp::spawn!(square(12), timeout = 2);
    let _ = mp::spawn!(square(12) square(13));
    let _ = mp::spawn!(square(12)?);
}
