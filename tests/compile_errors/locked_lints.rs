#![deny(unused)]

// The guards may go unused; all else is the user's.
fn main() {
    let total = mp::shared!(0.0).unwrap();
    let other = mp::shared!(0.0).unwrap();
    mp::locked!(total => *total += 1.0);
    mp::locked!(total, other => {
        let mut unused = 1;
    });
    let _ = mp::locked!(total => ());
}
