//! What stands for memory on its way to another process.

use std::sync::Weak;

use crate::shm::Expanse;

#[derive(Debug)]
pub(crate) struct SharedFd(pub(crate) Weak<Expanse>);
