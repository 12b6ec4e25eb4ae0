use mp::Shareable;

#[derive(Shareable)]
struct Counter {
    count: u32,
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.count = 0;
    }
}

#[derive(Shareable)]
struct Generic<T: Copy, const N: usize> {
    values: [T; N],
}

impl<T: Copy, const N: usize> Drop for Generic<T, N> {
    fn drop(&mut self) {}
}

#[derive(Shareable)]
enum Phase {
    First,
}

impl Drop for Phase {
    fn drop(&mut self) {}
}

fn main() {}
