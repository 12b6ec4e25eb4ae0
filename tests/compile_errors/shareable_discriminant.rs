#[derive(mp::Shareable)]
enum Status {
    Fine = 200,
    Missing = 404,
}

#[derive(mp::Shareable)]
enum Sign {
    Minus = -1,
    Large = 255,
}

fn main() {}
