fn main() {
    let _ = mp::shared!(vec![1, 2]);
    let _ = mp::shared!((0, "text"));
    let _: mp::Value<u32> = mp::shared!("text").unwrap();
}
