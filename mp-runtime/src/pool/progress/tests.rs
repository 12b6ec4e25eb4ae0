//! Who shows what, and when.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

use super::*;

#[test]
fn whoever_has_results_waits_until_they_are_shown() {
    let (begun, has_begun) = channel();
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let shown = Arc::new(Mutex::new(0));
    let own = Arc::clone(&shown);
    let progress = Progress::new(move |step| {
        let Step::Finished(items) = step else { return };
        begun.send(()).expect("the test listens");
        let gone = gone.lock().expect("nobody panics with it");
        gone.recv().expect("the test says so");
        *own.lock().expect("nobody panics with it") += items;
    });
    let meter = Meter::new(progress, &Arc::default());
    meter.count(3);
    thread::scope(|scope| {
        scope.spawn(|| meter.show());
        has_begun.recv().expect("somebody shows it");
        let second = scope.spawn(|| {
            meter.show();
            *shown.lock().expect("nobody panics with it")
        });
        while meter.state().waiting == 0 && !second.is_finished() {
            thread::yield_now();
        }
        go.send(()).expect("somebody waits for it");
        assert_eq!(second.join().expect("it does not panic"), 3);
    });
}

#[test]
fn what_shows_it_may_come_back_to_its_own_job() {
    let meter = Arc::new(Mutex::new(None::<Arc<Meter>>));
    let own = Arc::clone(&meter);
    let progress = Progress::new(move |_| {
        let meter = own.lock().expect("nobody panics with it").take();
        meter.expect("it is called once").show();
    });
    let shown = Meter::new(progress, &Arc::default());
    *meter.lock().expect("nobody panics with it") = Some(Arc::clone(&shown));
    shown.count(1);
    shown.show();
}
