// The harness takes tests out of a program that is not one, but only once the macro has seen them.
#[mp::test(workers = 2)]
fn with_arguments() {}

#[mp::test]
async fn asynchronous() {}

#[mp::test]
fn with_parameters(n: u32) {
    assert_eq!(n, 1);
}

#[mp::test]
#[test]
fn twice() {}

#[mp::test]
const TEST: u32 = 1;

fn main() {}
