//! Regions of shared memory on their way: `ipc-channel` would map them itself and not tell us which
//! they are, so their descriptors go over a socket of our own, ahead of the message.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use nix::libc;
use serde::{Deserialize, Serialize};

use super::Decoder;
use crate::os::carrier::Carrier;
use crate::shm::Region;
use crate::shm::lease::Loan;
use crate::shm::transit::Cargo;

/// What a loan takes in the load: number of its region, place of its table, whose count it is.
const LOAN_BYTES: usize = 4 + 8 + 8;

/// What a message says about the load ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waybill {
    number: u64,
    regions: u32,
    loans: u32,
}

/// One end of the way.
#[derive(Clone, Debug)]
pub(crate) struct Freight {
    carrier: Arc<Carrier>,
    /// Whether who receives a part of an array keeps count of it from then on. A worker hands over
    /// what it returns, since it may end before it is taken; a parent keeps count of what it lends
    /// for a call until the call has ended.
    hands_over: bool,
}

impl Freight {
    /// The parent's end.
    pub(crate) fn of_parent(carrier: Carrier) -> Freight {
        Freight {
            carrier: Arc::new(carrier),
            hands_over: false,
        }
    }

    /// The worker's end.
    pub(crate) fn of_worker(carrier: Carrier) -> Freight {
        Freight {
            carrier: Arc::new(carrier),
            hands_over: true,
        }
    }

    /// Sends what a message refers to.
    pub(super) fn send(&self, cargo: &Cargo) -> io::Result<Waybill> {
        let fds: Vec<_> = cargo
            .regions
            .iter()
            .map(|region| region.fd().as_fd())
            .collect();
        let loans = if self.hands_over {
            &cargo.loans[..]
        } else {
            &[]
        };
        let numbers: HashMap<*const Region, usize> = match loans {
            [] => HashMap::new(),
            _ => {
                let places = cargo.regions.iter().map(Arc::as_ptr);
                places.zip(0..).collect()
            }
        };
        let mut bytes = Vec::with_capacity(loans.len() * LOAN_BYTES);
        for loan in loans {
            let number = numbers.get(&Arc::as_ptr(loan.region())).copied();
            let number = number.and_then(|number| u32::try_from(number).ok());
            let (offset, tag) = loan.describe();
            bytes.extend_from_slice(&number.unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(&(offset as u64).to_le_bytes());
            bytes.extend_from_slice(&tag.to_le_bytes());
        }
        let number = self.carrier.send(&fds, &bytes)?;
        Ok(Waybill {
            number,
            regions: fds.len() as u32,
            loans: loans.len() as u32,
        })
    }

    /// The message went out: who receives it has the parts in it.
    pub(super) fn sent(&self, cargo: &Cargo) {
        if self.hands_over {
            cargo.loans.iter().for_each(Loan::hand_over);
        }
    }

    /// Takes in what came ahead of a message. What this process has no room for is missing from
    /// the cargo, which says so.
    ///
    /// # Errors
    ///
    /// If the other side did not send what it says.
    pub(super) fn receive(&self, waybill: Waybill) -> io::Result<Cargo> {
        let mut cargo = Cargo::default();
        let (regions, loans) = (waybill.regions as usize, waybill.loans as usize);
        // A region that is here already is let go at once, and takes no descriptor meanwhile.
        let adopt = |fd| match Region::adopt(fd) {
            Ok(region) if cargo.loss.is_none() => cargo.regions.push(region),
            Ok(_) => {}
            Err(error) => cargo.loss = Some(error.to_string()),
        };
        let received = self.carrier.receive(
            waybill.number,
            regions,
            loans.saturating_mul(LOAN_BYTES),
            adopt,
        );
        let bytes = match received {
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                // Nobody knows which ones are missing.
                cargo.regions.clear();
                cargo.loss = Some("there are not enough free descriptors".into());
                return Ok(cargo);
            }
            other => other?,
        };
        if !self.hands_over {
            cargo.loans = take_over(&cargo, &bytes).map_err(io::Error::other)?;
        }
        Ok(cargo)
    }
}

fn take_over(cargo: &Cargo, bytes: &[u8]) -> Result<Vec<Loan>, super::DecodeError> {
    let mut loans = Vec::new();
    let mut from = Decoder::new(bytes);
    while !from.is_empty() {
        let (number, offset, tag) = (from.u32()?, from.u64()?, from.u64()?);
        // One without its region, or without room in its table, is found out when it is decoded.
        let region = cargo.regions.get(number as usize);
        loans.extend(region.and_then(|region| Loan::take_over(region, offset as usize, tag)));
    }
    Ok(loans)
}
