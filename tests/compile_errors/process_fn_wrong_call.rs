#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

fn main() {
    let _ = square("2");
    let _ = square(1, 2);
    let square = 4;
    let _ = square;
}
