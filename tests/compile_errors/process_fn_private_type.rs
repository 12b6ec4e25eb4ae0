#[derive(serde::Serialize, serde::Deserialize)]
struct Config {
    threads: u32,
}

// What a public function takes is a part of its public interface.
#[mp::process_fn]
pub fn run(config: Config) -> u32 {
    config.threads
}

fn main() {}
