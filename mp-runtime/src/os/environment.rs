//! The environment variable that tells a worker what it is.

/// Removes the variable `name` and returns what it held.
pub(crate) fn take(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    // SAFETY: only a process that was started as a worker has the variable, and it calls this from
    // the first line of its `main`, before it has started a thread.
    unsafe { std::env::remove_var(name) };
    Some(value)
}
