//! temporary
#[mp::process_fn]
fn nothing() {}
#[mp::main]
fn main() -> Result<(), mp::Error> {
    let n: usize = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    for _ in 0..n {
        mp::spawn!(nothing())?.join()?;
        eprintln!("@@ joined");
    }
    Ok(())
}
