fn main() {
    let _ = mp::shared!(1, 2);
    let _ = mp::shared!(HITS: u64 = 0);
    let _ = mp::shared!(1 +);
}
