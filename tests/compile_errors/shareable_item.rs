use mp::Shareable;

#[derive(Shareable)]
union Either {
    number: u32,
    float: f32,
}

#[derive(Shareable)]
struct Borrower<'a> {
    text: &'a str,
}

#[derive(Shareable)]
#[repr(C, packed(2))]
struct Packed {
    number: u32,
}

#[derive(Shareable)]
enum Parametric<const N: usize> {
    A,
}

fn main() {}
