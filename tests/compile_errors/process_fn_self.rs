struct Job {
    size: u32,
}

impl Job {
    #[mp::process_fn]
    fn run(&self) -> u32 {
        self.size
    }

    #[mp::process_fn]
    fn consume(self: Box<Self>) -> u32 {
        self.size
    }
}

fn main() {
    let job = Job { size: 1 };
    println!("{}", job.run());
    println!("{}", Box::new(job).consume());
}
