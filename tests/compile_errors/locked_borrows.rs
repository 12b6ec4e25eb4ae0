// What the lock guards stays behind it.
fn main() {
    let total = mp::shared!(0.0).unwrap();
    let other = mp::shared!(0.0).unwrap();
    let escaped = mp::locked!(total => &mut *total).unwrap();
    let guard = mp::locked!(total, other => (&*total, &*other)).unwrap();
    *escaped = *guard.0;
}
