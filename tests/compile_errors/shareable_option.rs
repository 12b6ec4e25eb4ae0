#[derive(mp::Shareable)]
struct Point {
    x: u32,
}

#[derive(mp::Shareable)]
struct Place {
    point: Option<Point>,
    number: Option<u32>,
}

fn main() {}
