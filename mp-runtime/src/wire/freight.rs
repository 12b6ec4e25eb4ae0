//! Regions of shared memory on their way: `ipc-channel` would map them itself and not tell us which
//! they are, so their descriptors go over a socket of our own, ahead of the message.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::os::carrier::Carrier;
use crate::shm::Region;
use crate::shm::transit::Cargo;

/// What a message says about the load ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waybill {
    number: u64,
    regions: u32,
}

/// One end of the way.
#[derive(Clone, Debug)]
pub(crate) struct Freight(Arc<Carrier>);

impl Freight {
    pub(crate) fn over(carrier: Carrier) -> Freight {
        Freight(Arc::new(carrier))
    }

    /// Sends what a message refers to.
    pub(super) fn send(&self, cargo: &Cargo) -> io::Result<Waybill> {
        let regions = cargo.regions.iter();
        let fds: Vec<_> = regions.map(|region| region.fd().as_fd()).collect();
        let number = self.0.send(&fds)?;
        let regions = fds.len() as u32;
        Ok(Waybill { number, regions })
    }

    /// Takes in what came ahead of a message. What this process has no room for is missing from
    /// the cargo, which says so.
    ///
    /// # Errors
    ///
    /// If the other side did not send what it says.
    pub(super) fn receive(&self, waybill: Waybill) -> io::Result<Cargo> {
        let mut cargo = Cargo::default();
        // A region that is here already is let go at once, and takes no descriptor meanwhile.
        let adopt = |fd| match Region::adopt(fd) {
            Ok(region) if cargo.loss.is_none() => cargo.regions.push(region),
            Ok(_) => {}
            Err(error) => cargo.loss = Some(error.to_string()),
        };
        match self
            .0
            .receive(waybill.number, waybill.regions as usize, adopt)
        {
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                // Nobody knows which ones are missing.
                cargo.regions.clear();
                cargo.loss = Some("there are not enough free descriptors".into());
            }
            other => other?,
        }
        Ok(cargo)
    }
}
