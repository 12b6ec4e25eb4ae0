//! A program without a test harness, with a `main` as users have it: its fork server has one thread.

use std::fs;

use mp::{Builder, Pool, StartMethod};

/// The threads of this process, and whether its first one runs this.
#[mp::process_fn]
fn threads() -> (usize, bool) {
    let count = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let own = nix::unistd::gettid();
    (count, own == nix::unistd::getpid())
}

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

#[mp::process_fn]
fn nested() -> Result<(i64, u32, u32), String> {
    let process = mp::spawn!(square(5)).map_err(|error| error.to_string())?;
    let result = process.join().map_err(|error| error.to_string())?;
    Ok((
        result,
        mp::current().parent_id,
        std::os::unix::process::parent_id(),
    ))
}

#[mp::main]
fn main() -> Result<(), mp::Error> {
    for method in [StartMethod::ForkServer, StartMethod::Exec] {
        let builder = || Builder::new().start_method(method);
        assert_eq!(
            builder().spawn(threads, ())?.join()?,
            (1, true),
            "{method:?}"
        );
        let own = std::process::id();
        assert_eq!(builder().spawn(nested, ())?.join()?, Ok((25, own, own)));
        let pool = Pool::builder().workers(3).start_method(method).build()?;
        assert!(
            pool.map(square, 0..1000)?
                .into_iter()
                .eq((0..1000).map(|x| x * x))
        );
        let workers = pool.workers();
        assert_eq!(workers.len(), 3);
        pool.join()?;
    }
    let servers = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    // They are the nursery's, and nobody else's.
    assert_eq!(servers, "");
    assert_eq!(mp::active_children(), []);
    println!("all of it holds");
    Ok(())
}
