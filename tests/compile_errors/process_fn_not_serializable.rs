use std::collections::HashMap;

struct Config {
    threads: u32,
}

#[derive(serde::Serialize)]
struct Report {
    lines: u32,
}

#[mp::process_fn]
fn owned(config: Config) -> u32 {
    config.threads
}

#[mp::process_fn]
fn lent(name: &str, config: &Config) -> usize {
    name.len() + config.threads as usize
}

#[mp::process_fn]
fn listed(configs: &[Config], by_name: HashMap<String, Config>) -> usize {
    configs.len() + by_name.len()
}

#[mp::process_fn]
fn returned(lines: u32) -> Report {
    Report { lines }
}

#[mp::process_fn]
fn returned_within(lines: u32) -> Result<Report, String> {
    Ok(Report { lines })
}

#[mp::process_fn]
fn called_back(callback: fn(u32) -> u32) -> u32 {
    callback(1)
}

fn main() {
    let _ = owned(Config { threads: 1 });
    let _ = mp::spawn!(returned(1)).unwrap().join().unwrap().lines;
}
