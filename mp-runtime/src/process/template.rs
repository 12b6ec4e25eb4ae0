//! The fork server itself: a worker that has run nothing but what stands before `init`, and makes
//! others out of itself.
//!
//! It is executed as any worker is, but with the socket of its requests in place of a lifeline. At
//! `init` it sees whether it can serve, says its [hello](request), and takes requests until nobody has the other end of the socket any more, or its parent has ended. For
//! each it forks itself once. The new process is a child of the *program* ([`fork`](crate::os::fork)), has the
//! descriptors of the request, which the server has closed when it takes the next one, and goes on
//! where an executed worker does.
//!
//! No thread is started in it, nothing is decoded but the bits of requests, and the keys of its
//! hash maps are not drawn, so that each worker draws its own. Its standard streams are `/dev/null`:
//! it must not keep a pipe of the program open.
//!
//! What happens if it dies at any step is in the [module](super::server) of the other side.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::libc;

use super::birth::{self, Inheritance};
use super::panic;
use super::request::{self, Order, PART_COUNT, Part, Parts};
use crate::link::Spinner;
use crate::os::fork::{Fork, Template};
use crate::os::{descriptor, exit, signal};
use crate::registry::Catalogue;
use crate::sync::statics;
use crate::wire::Seat;

/// What lists of processes call it.
pub(super) const NAME: &str = "mp-fork-server";

/// Serves. Returns in the processes that it makes, and nowhere else.
pub(super) fn serve(socket: OwnedFd) -> Inheritance {
    signal::show_name(NAME);
    let fit = get_ready();
    let fitness = match &fit {
        Ok(_) => Ok(()),
        Err(reason) => Err(reason.clone()),
    };
    // If nobody receives it there will be no request either.
    let _ = request::send_hello(&socket, &fitness);
    let Ok(template) = fit else {
        exit::now(0);
    };
    let spinner = Spinner::default();
    let mut seat = None;
    let mut is_at_rest = false;
    loop {
        let parts = match request::receive_order(&socket) {
            None => exit::now(0),
            Some(Ok(Order::Request(parts))) => parts,
            Some(Ok(Order::Soon)) => {
                spinner.spin(|| request::is_waiting(&socket));
                continue;
            }
            Some(Err(error)) => {
                let _ = request::send_reply(&socket, Err(error));
                continue;
            }
        };
        if let Some(parts) = fork(&template, &socket, parts) {
            drop(socket);
            return take_over(parts, seat).unwrap_or_else(|| exit::now(0));
        }
        if !is_at_rest && !request::is_waiting(&socket) {
            is_at_rest = true;
            Spinner::get_ready();
            // Without one, each worker that needs it makes its own.
            seat = Seat::make().ok();
        }
    }
}

/// Sees whether it can serve, and does what it must have done.
fn get_ready() -> Result<Template, String> {
    birth::be_initialized();
    panic::install_hook();
    // What is wrong with these each worker says itself.
    let _ = Catalogue::get().map(Catalogue::fingerprint);
    let _ = statics::to_hand_down();
    Template::of_this_process()
}

/// Answers a request. Gives its parts back in the new process.
fn fork(template: &Template, socket: &OwnedFd, parts: Parts<OwnedFd>) -> Option<Parts<OwnedFd>> {
    // If the program is gone, so is this process soon.
    let refuse = |error| drop(request::send_reply(socket, Err(error)));
    let home = match parts[Part::Directory as usize].as_ref() {
        None => None,
        Some(there) => {
            let home = descriptor::directory(Path::new("."));
            match home.and_then(|home| descriptor::enter(there).map(|()| home)) {
                Ok(home) => Some(home),
                Err(error) => {
                    refuse(error);
                    return None;
                }
            }
        }
    };
    let forked = template.fork();
    if let Ok(Fork::Child) = forked {
        return Some(parts);
    }
    // Before anybody hears of it: the next one shall have none of them.
    drop(parts);
    if let Some(home) = home
        && descriptor::enter(&home).is_err()
    {
        // It may be gone. The program starts another server.
        exit::now(1);
    }
    match forked {
        Ok(Fork::Original { id, pidfd }) => {
            let _ = request::send_reply(socket, Ok((id, pidfd.as_fd())));
        }
        Ok(Fork::Child) => {}
        Err(error) => refuse(error),
    }
    None
}

/// Takes over what came, in the new process; `None` if something is missing.
fn take_over(mut parts: Parts<OwnedFd>, seat: Option<Seat>) -> Option<Inheritance> {
    const STREAMS: [(Part, i32); 3] = [
        (Part::Stdin, libc::STDIN_FILENO),
        (Part::Stdout, libc::STDOUT_FILENO),
        (Part::Stderr, libc::STDERR_FILENO),
    ];
    const { assert!(Part::Directory as usize + 1 == PART_COUNT) };
    let mut take = |part: Part| parts[part as usize].take();
    for (part, number) in STREAMS {
        if let Some(stream) = take(part) {
            descriptor::become_standard(number, &stream).ok()?;
        }
    }
    Some(Inheritance {
        lifeline: take(Part::Lifeline)?,
        lanes: take(Part::Lanes)?,
        carrier: take(Part::Carrier)?,
        seat,
    })
}
