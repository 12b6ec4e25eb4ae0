//! Progress bars of `indicatif`.

use std::fs::{self, File};
use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, TermLike};
use mp::{ErrorKind, Pool, TaskOptions, WithOptions};

use crate::programs::Directory;
use crate::watchdog::{until, within};

const LIMIT: Duration = Duration::from_secs(120);

#[mp::process_fn]
fn echo(number: u64) -> u64 {
    number
}

#[mp::process_fn]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[mp::process_fn]
fn dies_at(place: u64, number: u64) -> u64 {
    if number == place {
        std::process::abort();
    }
    number
}

/// Dies once, where it finds no mark of that.
#[mp::process_fn]
fn dies_once(mark: &str, number: u64) -> u64 {
    if number == 3 && !fs::exists(mark).expect("it can be looked at") {
        File::create(mark).expect("it can be made");
        std::process::abort();
    }
    number
}

#[mp::process_fn]
fn panics(number: u64) -> u64 {
    panic!("{number} is too much")
}

#[mp::process_fn]
fn wait_for(path: &str) {
    until(|| fs::exists(path).expect("a path can be looked at"));
}

/// Runs `body` with a bar that has no length, and gives what was shown in the end.
fn shown(pool: &Pool, body: impl FnOnce(WithOptions<'_>)) -> (u64, Option<u64>) {
    let bar = ProgressBar::hidden();
    body(pool.with(TaskOptions::new().progress(bar.clone())));
    assert!(!bar.is_finished(), "that is for the one whose bar it is");
    (bar.position(), bar.length())
}

#[mp::test]
fn the_bar_moves_by_one_for_each_item() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        for _ in 0..20 {
            let map = shown(&pool, |pool| {
                pool.map(echo, 0..1000).expect("they return");
            });
            assert_eq!(map, (1000, Some(1000)));
            let starmap = shown(&pool, |pool| {
                let items = (0..100).map(|x| (x, x)).filter(|_| true);
                pool.starmap(add, items).expect("they return");
            });
            assert_eq!(starmap, (100, Some(100)));
            let apply = shown(&pool, |pool| {
                pool.apply(add, (1, 2)).expect("it returns");
            });
            assert_eq!(apply, (1, Some(1)));
            let submit = shown(&pool, |pool| {
                let task = pool.submit(add, (1, 2)).expect("it is open");
                task.join().expect("it returns");
            });
            assert_eq!(submit, (1, Some(1)));
            let submit_map = shown(&pool, |pool| {
                let task = pool.submit_map(echo, 0..100).expect("it is open");
                task.join().expect("they return");
            });
            assert_eq!(submit_map, (100, Some(100)));
            let imap = shown(&pool, |pool| {
                assert_eq!(pool.imap(echo, 0..100).filter(Result::is_ok).count(), 100);
            });
            assert_eq!(imap, (100, Some(100)));
            let imap_unordered = shown(&pool, |pool| {
                assert_eq!(pool.imap_unordered(echo, 0..100).count(), 100);
            });
            assert_eq!(imap_unordered, (100, Some(100)));
        }
    });
}

#[mp::test]
fn the_bar_moves_while_nobody_waits() {
    within(LIMIT, || {
        let directory = Directory::new();
        let go = directory.join("go");
        let pool = Pool::new(2).expect("a pool can be started");
        let bar = ProgressBar::hidden();
        let options = TaskOptions::new().progress(bar.clone());
        let held = pool.with(options.clone());
        let held = held.submit_map(echo, 0..100).expect("it is open");
        until(|| bar.position() == 100);
        drop(pool.with(options.clone()).submit(echo, (1,)));
        until(|| bar.position() == 101);
        // In the middle of a task, too.
        let items = [directory.path().display().to_string(), go.clone()];
        let task = pool.with(options.chunk_size(1)).submit_map(wait_for, items);
        let task = task.expect("it is open");
        until(|| bar.position() == 102);
        assert!(!task.is_finished());
        File::create(&go).expect("a file can be made");
        task.join().expect("they return");
        assert_eq!(bar.position(), 103);
        held.join().expect("they returned");
        assert_eq!((bar.position(), bar.length()), (103, Some(100)));
        pool.join().expect("everything was done");
    });
}

#[mp::test]
fn joining_the_pool_brings_the_bar_up_to_date() {
    within(LIMIT, || {
        for _ in 0..10 {
            let pool = Pool::new(2).expect("a pool can be started");
            let bar = ProgressBar::hidden();
            let options = TaskOptions::new().progress(bar.clone());
            drop(pool.with(options).submit_map(echo, 0..1000));
            pool.join().expect("everything was done");
            assert_eq!(bar.position(), 1000);
        }
    });
}

#[mp::test]
fn a_length_of_its_own_is_left_alone() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let bar = ProgressBar::hidden();
        bar.set_length(500);
        for number in 1..=2 {
            let options = TaskOptions::new().progress(bar.clone());
            pool.with(options).map(echo, 0..250).expect("they return");
            assert_eq!((bar.position(), bar.length()), (250 * number, Some(500)));
        }
    });
}

#[mp::test]
fn the_length_is_known_before_the_items_are() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let bar = ProgressBar::hidden();
        let options = TaskOptions::new().progress(bar.clone());
        let mut results = pool.with(options).imap(echo, 0..1_000_000_000);
        assert_eq!(bar.length(), Some(1_000_000_000));
        results.next().expect("there is one").expect("it returns");
        assert!(bar.position() >= 1);
        drop(results);
        let bar = ProgressBar::hidden();
        let options = TaskOptions::new().progress(bar.clone());
        let mut results = pool.with(options).imap(echo, 0..);
        results.next().expect("there is one").expect("it returns");
        assert_eq!(bar.length(), None);
    });
}

#[mp::test]
fn errors_count_and_what_is_tried_again_counts_once() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let died = shown(&pool, |pool| {
            let task = pool.submit_map(panics, 0..10).expect("it is open");
            task.wait();
            let error = task.join().expect_err("they panic");
            assert_eq!(error.kind(), ErrorKind::Panicked);
        });
        assert_eq!(died, (10, Some(10)));
        let died = shown(&pool, |pool| {
            let results = pool.imap(panics, 0..10);
            assert_eq!(results.filter(Result::is_err).count(), 10);
        });
        assert_eq!(died, (10, Some(10)));
        let died = shown(&pool, |pool| {
            let task = pool.submit(dies_at, (5, 5)).expect("it is open");
            let error = task.join().expect_err("it dies");
            assert_eq!(error.kind(), ErrorKind::Died);
        });
        assert_eq!(died, (1, Some(1)));

        let bar = ProgressBar::hidden();
        let options = TaskOptions::new().progress(bar.clone()).chunk_size(4);
        let items = (0..10).map(|number| (5, number));
        let error = pool.with(options).starmap(dies_at, items);
        assert_eq!(error.expect_err("it dies").kind(), ErrorKind::Died);
        assert!(bar.position() >= 6 && bar.position() <= 10, "{bar:?}");

        let directory = Directory::new();
        let mark = directory.join("mark");
        let bar = ProgressBar::hidden();
        let options = TaskOptions::new().progress(bar.clone()).retries(1);
        let items = (0..10).map(|number| (mark.clone(), number));
        let results = pool.with(options).starmap(dies_once, items);
        assert!(results.expect("they return").into_iter().eq(0..10));
        assert!(fs::exists(&mark).expect("it can be looked at"), "one died");
        assert_eq!((bar.position(), bar.length()), (10, Some(10)));
    });
}

/// A terminal that panics whatever it is to do.
#[derive(Debug)]
struct Broken;

impl TermLike for Broken {
    fn width(&self) -> u16 {
        80
    }

    fn move_cursor_up(&self, _lines: usize) -> io::Result<()> {
        panic!("it is broken")
    }

    fn move_cursor_down(&self, _lines: usize) -> io::Result<()> {
        panic!("it is broken")
    }

    fn move_cursor_right(&self, _columns: usize) -> io::Result<()> {
        panic!("it is broken")
    }

    fn move_cursor_left(&self, _columns: usize) -> io::Result<()> {
        panic!("it is broken")
    }

    fn write_line(&self, _line: &str) -> io::Result<()> {
        panic!("it is broken")
    }

    fn write_str(&self, _text: &str) -> io::Result<()> {
        panic!("it is broken")
    }

    fn clear_line(&self) -> io::Result<()> {
        panic!("it is broken")
    }

    fn flush(&self) -> io::Result<()> {
        panic!("it is broken")
    }
}

#[mp::test]
fn a_bar_that_panics_harms_nobody() {
    within(LIMIT, || {
        let pool = Pool::new(2).expect("a pool can be started");
        let broken = || {
            let target = ProgressDrawTarget::term_like(Box::new(Broken));
            TaskOptions::new().progress(ProgressBar::with_draw_target(None, target))
        };
        let numbers = pool.with(broken()).map(echo, 0..100).expect("they return");
        assert!(numbers.into_iter().eq(0..100));
        let task = pool.with(broken()).submit(echo, (3,)).expect("it is open");
        assert_eq!(task.join().expect("it returns"), 3);
        drop(pool.with(broken()).submit_map(echo, 0..100));
        pool.join().expect("everything was done");
    });
}
