struct Config;

#[mp::process_fn]
fn run(config: Confgi) -> Rseult<u32, String> {
    let _ = config;
    Ok(1)
}

#[mp::process_fn]
fn wrong_body(text: &str) -> u32 {
    text.len()
}

fn main() {
    let _ = Config;
}
