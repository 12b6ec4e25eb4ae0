//! The process-wide pool: made at first use, with the default number of workers.

use super::{Pool, Task, TaskOptions, WithOptions};
use crate::error::Error;
use crate::os::thread::PerProcess;
use crate::registry::ProcessFn;

/// The pool of this process, made if it was not; a fork of the program gets its own. It lives as
/// long as the process.
fn pool() -> Result<&'static Pool, Error> {
    static POOL: PerProcess<&'static Pool> = PerProcess::new();
    // A failure is not kept: the next call tries again.
    POOL.get_or_try_init(|| {
        let made = Pool::builder().name("mp").build()?;
        Ok(&*Box::leak(Box::new(made)))
    })
}

/// [`Pool::with`] on the process-wide pool.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let options = mp::TaskOptions::new().chunk_size(64);
/// assert_eq!(mp::pool::with(options)?.map(square, 0..4)?, [0, 1, 4, 9]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As for [`Pool::new`].
pub fn with(options: TaskOptions) -> Result<WithOptions<'static>, Error> {
    Ok(pool()?.with(options))
}

/// [`Pool::map`] on the process-wide pool.
///
/// ```
/// #[mp::process_fn]
/// fn square(x: i64) -> i64 {
///     x * x
/// }
///
/// # #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     assert_eq!(mp::pool::map(square, 0..4)?, [0, 1, 4, 9]);
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// As there, and as for [`Pool::new`].
pub fn map<F, A, I>(function: F, items: I) -> Result<Vec<F::Output>, Error>
where
    F: ProcessFn<Args = (A,)>,
    I: IntoIterator<Item = A>,
{
    pool()?.map(function, items)
}

/// [`Pool::starmap`] on the process-wide pool.
///
/// ```
/// # #[mp::process_fn]
/// # fn add(a: i64, b: i64) -> i64 { a + b }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// assert_eq!(mp::pool::starmap(add, [(1, 2), (3, 4)])?, [3, 7]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As there, and as for [`Pool::new`].
pub fn starmap<F, I>(function: F, items: I) -> Result<Vec<F::Output>, Error>
where
    F: ProcessFn,
    I: IntoIterator<Item = F::Args>,
{
    pool()?.starmap(function, items)
}

/// [`Pool::apply`] on the process-wide pool.
///
/// ```
/// # #[mp::process_fn]
/// # fn add(a: i64, b: i64) -> i64 { a + b }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// assert_eq!(mp::pool::apply(add, (1, 2))?, 3);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As there, and as for [`Pool::new`].
pub fn apply<F: ProcessFn>(function: F, args: F::Args) -> Result<F::Output, Error> {
    pool()?.apply(function, args)
}

/// [`Pool::submit`] on the process-wide pool.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// assert_eq!(mp::pool::submit(square, (12,))?.join()?, 144);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As there, and as for [`Pool::new`].
pub fn submit<F: ProcessFn>(function: F, args: F::Args) -> Result<Task<F::Output>, Error> {
    pool()?.submit(function, args)
}

/// [`Pool::submit_map`] on the process-wide pool.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// assert_eq!(mp::pool::submit_map(square, 0..3)?.join()?, [0, 1, 4]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As there, and as for [`Pool::new`].
pub fn submit_map<F, A, I>(function: F, items: I) -> Result<Task<Vec<F::Output>>, Error>
where
    F: ProcessFn<Args = (A,)>,
    I: IntoIterator<Item = A>,
{
    pool()?.submit_map(function, items)
}

/// [`Pool::imap`] on the process-wide pool. If that cannot be made, the first and only item says
/// so.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let first = mp::pool::imap(square, 3..).next().transpose()?;
/// assert_eq!(first, Some(9));
/// # Ok(())
/// # }
/// ```
pub fn imap<F, A, I>(
    function: F,
    items: I,
) -> impl Iterator<Item = Result<F::Output, Error>> + use<F, A, I>
where
    F: ProcessFn<Args = (A,)>,
    I: IntoIterator<Item = A>,
{
    let (results, failure) = match pool() {
        Ok(pool) => (Some(pool.imap(function, items)), None),
        Err(error) => (None, Some(Err(error))),
    };
    failure.into_iter().chain(results.into_iter().flatten())
}

/// [`Pool::imap_unordered`] on the process-wide pool. If that cannot be made, the first and only
/// item says so.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// assert_eq!(mp::pool::imap_unordered(square, 0..10).count(), 10);
/// # Ok(())
/// # }
/// ```
pub fn imap_unordered<F, A, I>(
    function: F,
    items: I,
) -> impl Iterator<Item = (usize, Result<F::Output, Error>)> + use<F, A, I>
where
    F: ProcessFn<Args = (A,)>,
    I: IntoIterator<Item = A>,
{
    let (results, failure) = match pool() {
        Ok(pool) => (Some(pool.imap_unordered(function, items)), None),
        Err(error) => (None, Some((0, Err(error)))),
    };
    failure.into_iter().chain(results.into_iter().flatten())
}
