//! There are no files here.

#[derive(Debug)]
pub(crate) enum SharedFd {}
