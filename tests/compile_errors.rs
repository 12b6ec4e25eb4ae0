//! What the macros say to a program that is wrong, and what they accept.
//!
//! `TRYBUILD=overwrite cargo test --test compile_errors` writes the `.stderr` files anew. They show
//! the messages of one compiler version; read each difference before keeping it.

use std::fs;
use std::path::Path;

#[test]
fn errors_stand_at_the_users_tokens_and_say_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*.rs");
}

/// What compiles does so as a test of its own, over the library that all tests have: trybuild would
/// build that and all it needs once more.
#[test]
fn everything_promised_compiles_without_a_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml is there");
    let files = fs::read_dir(root.join("tests/compile_pass")).expect("the folder is there");
    let mut count = 0;
    for file in files {
        let path = file.expect("its entries can be read").path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.expect("the name is text");
        let target = format!(
            "[[test]]\nname = \"{name}\"\npath = \"tests/compile_pass/{name}.rs\"\nharness = false\n"
        );
        assert!(manifest.contains(&target), "`{name}` is no test");
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let denied = "\n#![deny(missing_docs, warnings";
        assert!(text.contains(denied), "`{name}` may have warnings");
        count += 1;
    }
    assert!(count >= 6, "the test has lost sight of the files: {count}");
}
