#[mp::process_fn]
fn resize(path: &str, size: u32) -> Vec<u8> {
    vec![path.len() as u8; size as usize]
}

fn main() {
    // A literal is not the `String` that is sent.
    let _ = mp::spawn!(resize("cat.png", 64));
    let _ = mp::spawn!(resize("cat.png".to_owned(), "64"));
    let _ = mp::spawn!(resize("cat.png".to_owned()));
    let _ = mp::spawn!(resize("cat.png".to_owned(), 64, 64));
    let _ = mp::spawn!(rseize("cat.png".to_owned(), 64));
}
