//! A program with two process functions of one name. It has a test binary of its own, since it
//! cannot start anything.

use mp::ErrorKind;

mod one {
    #[mp::process_fn(name = "jobs.work")]
    pub(super) fn work() {}
}

mod other {
    #[mp::process_fn(name = "jobs.work")]
    pub(super) fn work() {}
}

#[mp::process_fn]
fn innocent() {}

#[mp::test]
fn two_functions_of_one_name_are_reported_with_both_places_before_anything_starts() {
    let results = [
        mp::spawn!(one::work()).map(drop),
        mp::spawn!(other::work()).map(drop),
        mp::spawn!(innocent()).map(drop),
        mp::Pool::new(1).map(drop),
    ];
    for result in results {
        let error = result.expect_err("it is not clear which one is meant");
        assert_eq!(error.kind(), ErrorKind::Spawn);
        let text = error.to_string();
        for part in [
            "`jobs.work`",
            "duplicate_names.rs:8:",
            "duplicate_names.rs:13:",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert_eq!(mp::active_children(), []);
}
