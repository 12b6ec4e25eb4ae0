//! What the macros say to a program that is wrong, and what they accept.
//!
//! `TRYBUILD=overwrite cargo test --test compile_errors` writes the `.stderr` files anew. They show
//! the messages of one compiler version; read each difference before keeping it.

#[test]
fn errors_stand_at_the_users_tokens_and_say_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*.rs");
}

#[test]
fn everything_promised_compiles_without_a_warning() {
    trybuild::TestCases::new().pass("tests/compile_pass/*.rs");
}
