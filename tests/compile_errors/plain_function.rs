fn square(x: i64) -> i64 {
    x * x
}

fn main() {
    let _ = mp::spawn!(square(1));
    let pool = mp::Pool::new(2).unwrap();
    let _ = pool.map(square, 0..3);
}
