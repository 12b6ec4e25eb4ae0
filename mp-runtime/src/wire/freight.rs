//! Regions of shared memory, and open files, on their way: `ipc-channel` would map regions itself and
//! not tell us which they are, and takes no other files; so their descriptors go over a socket of
//! our own, ahead of the message.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::libc;
use serde::{Deserialize, Serialize};

use super::Handles;
use crate::os::carrier::Carrier;
use crate::os::shared_fd::SharedFd;
use crate::shm::Region;
use crate::shm::bulk::Bulk;
use crate::shm::transit::Cargo;

/// What a message says about the load ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waybill {
    number: u64,
    regions: u32,
    files: u32,
    bulks: u32,
}

/// One end of the way.
#[derive(Clone, Debug)]
pub(crate) struct Freight(Arc<Carrier>);

impl AsFd for Freight {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Freight {
    pub(crate) fn over(carrier: Carrier) -> Freight {
        Freight(Arc::new(carrier))
    }

    /// See [`Carrier::send_ahead`].
    pub(crate) fn send_ahead(&self, fds: &[OwnedFd]) -> io::Result<()> {
        self.0.send_ahead(fds)
    }

    /// See [`Carrier::receive_ahead`].
    pub(crate) fn receive_ahead(&self) -> io::Result<[OwnedFd; 2]> {
        self.0.receive_ahead()
    }

    /// See [`Carrier::knock`].
    pub(crate) fn knock(&self) -> io::Result<()> {
        self.0.knock()
    }

    /// Sends what a message refers to.
    pub(super) fn send(&self, handles: &Handles) -> io::Result<Waybill> {
        let cargo = &handles.cargo;
        let regions = cargo.regions.iter().map(|region| region.fd().as_fd());
        let files = cargo.files.iter().map(|file| file.as_fd());
        let bulks = handles.bulks().iter();
        let bulks = bulks.map(|bulk| bulk.region().fd().as_fd());
        let fds: Vec<_> = regions.chain(files).chain(bulks).collect();
        Ok(Waybill {
            number: self.0.send(&fds)?,
            regions: cargo.regions.len() as u32,
            files: cargo.files.len() as u32,
            bulks: handles.bulks().len() as u32,
        })
    }

    /// Takes in what came ahead of a message. What this process has no room for is missing from
    /// the cargo, which says so.
    ///
    /// # Errors
    ///
    /// If the other side did not send what it says.
    pub(super) fn receive(&self, waybill: Waybill) -> io::Result<Cargo> {
        let mut cargo = Cargo::default();
        let (mut regions_left, mut files_left) = (waybill.regions, waybill.files);
        // What is here already is let go at once, and takes no descriptor meanwhile.
        let adopt = |fd| {
            let adopted = if regions_left > 0 {
                regions_left -= 1;
                Region::adopt(fd).map(|region| cargo.regions.push(region))
            } else if files_left > 0 {
                files_left -= 1;
                SharedFd::adopt(fd).map(|file| cargo.files.push(file))
            } else {
                Region::adopt_any(fd).map(|region| cargo.bulks.push(Bulk::received(region)))
            };
            if let Err(error) = adopted {
                cargo.loss = Some(error.to_string());
            }
        };
        let count = waybill.regions as usize + waybill.files as usize + waybill.bulks as usize;
        match self.0.receive(waybill.number, count, adopt) {
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                cargo.loss = Some("there are not enough free descriptors".into());
            }
            other => other?,
        }
        if cargo.loss.is_some() {
            // Nobody knows which ones are missing.
            cargo.regions.clear();
            cargo.files.clear();
            cargo.bulks.clear();
        }
        Ok(cargo)
    }
}
