#[mp::process_fn]
fn largest<T: Ord>(values: Vec<T>) -> T {
    values.into_iter().max().unwrap()
}

#[mp::process_fn]
fn sum<const N: usize>(values: [u32; N]) -> u32 {
    values.iter().sum()
}

#[mp::process_fn]
fn length<'a>(text: &'a str) -> usize {
    text.len()
}

#[mp::process_fn]
fn double<T>(value: T) -> T
where
    T: std::ops::Add<Output = T> + Copy,
{
    value + value
}

// No use of them adds an error.
fn main() {
    let pool = mp::Pool::new(2).unwrap();
    let maxima: Vec<u32> = pool.map(largest, [vec![1, 2]]).unwrap();
    let total = sum([1, 2, 3]) + maxima[0];
    let four: usize = mp::spawn!(length("four")).unwrap().join().unwrap();
    println!("{}", double(four + total as usize));
}
