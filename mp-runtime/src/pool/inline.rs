//! stub
use super::core::Core;
use super::job::Job;
use super::segment::Piece;
use crate::error::Error;
use crate::process::ProcessInfo;
use std::sync::Arc;
pub(super) fn worker(_core: &Core) -> ProcessInfo {
    crate::process::current()
}
pub(super) fn open(_core: &Arc<Core>) -> Result<(), Error> {
    Ok(())
}
pub(super) fn run(_core: &Arc<Core>, _job: &Arc<Job>, _piece: &Piece) {}
