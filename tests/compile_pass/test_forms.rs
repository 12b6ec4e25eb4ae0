//! A test keeps its attributes and its return type.
#![deny(missing_docs, warnings)]

#[mp::test]
fn plain() {
    assert_eq!(1, 1);
}

#[mp::test]
#[should_panic(expected = "on purpose")]
fn panics() {
    panic!("on purpose");
}

#[mp::test]
#[ignore = "slow"]
fn ignored() {}

#[mp::test]
fn fallible() -> Result<(), Box<dyn std::error::Error>> {
    let number: u32 = "12".parse()?;
    assert_eq!(number, 12);
    Ok(())
}

#[mp::test]
#[cfg(any())]
fn absent() {
    unknown();
}

fn main() {}
