#[mp::process_fn]
#[allow(clippy::too_many_arguments)]
fn thirteen(
    a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8, m: u8,
) -> u8 {
    a + b + c + d + e + f + g + h + i + j + k + l + m
}

#[mp::process_fn]
#[allow(clippy::too_many_arguments)]
fn fourteen(
    a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8, m: u8, n: u8,
) -> u8 {
    a + b + c + d + e + f + g + h + i + j + k + l + m + n
}

#[mp::process_fn]
fn sometimes(a: u8, #[cfg(unix)] _b: u8) -> u8 {
    a
}

fn main() {}
