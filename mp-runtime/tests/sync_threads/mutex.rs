use std::thread;

use mp::sync::{Mutex, TryLockError};

use super::watchdog::within;
use super::{LIMIT, SHORT};

#[test]
fn a_reference_that_outlives_its_owner_keeps_others_out() {
    within(LIMIT, || {
        let lock = Mutex::new(7);
        let number: &mut u64 = thread::scope(|scope| {
            let owner = scope.spawn(|| {
                let guard = lock.lock().expect("nobody dies");
                &mut **Box::leak(Box::new(guard))
            });
            owner.join().expect("it does not panic")
        });
        for _ in 0..3 {
            assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        }
        assert!(matches!(
            lock.lock_timeout(SHORT * 5),
            Err(TryLockError::TimedOut)
        ));
        *number += 1;
        assert_eq!(*number, 8);
    });
}
