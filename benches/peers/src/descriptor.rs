//! The least that it takes to give another process memory to look at: a descriptor over a socket
//! pair, mapped and unmapped there, and a byte back.

use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
    recvmsg, send, sendmsg, socketpair,
};
use nix::unistd::ftruncate;

use crate::{Failure, page};

/// What the process that maps is told first.
pub(crate) const MAP: &str = "--raw-map";

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

/// A process that maps what it gets.
pub(crate) struct Mapper {
    socket: Option<OwnedFd>,
    process: Child,
    memory: OwnedFd,
}

impl Mapper {
    pub(crate) fn start() -> Result<Mapper, Failure> {
        let (socket, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let process = Command::new("/proc/self/exe")
            .arg(MAP)
            .stdin(Stdio::from(theirs))
            .spawn()?;
        let memory = memfd_create("peers", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(&memory, PAGE.get() as i64)?;
        Ok(Mapper {
            socket: Some(socket),
            process,
            memory,
        })
    }

    pub(crate) fn call(&mut self) -> Result<(), Failure> {
        let socket = self.socket.as_ref().ok_or("it is closed")?.as_raw_fd();
        let descriptors = [self.memory.as_raw_fd()];
        sendmsg::<()>(
            socket,
            &[IoSlice::new(&[7])],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::empty(),
            None,
        )?;
        match recv(socket, &mut [0], MsgFlags::empty())? {
            0 => Err("the process that maps has ended".into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        // It ends at the end of its input.
        self.socket = None;
        let _ = self.process.wait();
    }
}

/// Maps whatever comes on standard input.
pub(crate) fn map_what_comes() -> Result<(), Failure> {
    let socket = std::io::stdin().as_fd().as_raw_fd();
    while let Some(memory) = receive(socket)? {
        page::map_and_unmap(memory, PAGE)?;
        send(socket, &[7], MsgFlags::empty())?;
    }
    Ok(())
}

/// The descriptor of the next packet; none at the end.
#[expect(
    unsafe_code,
    reason = "a descriptor that comes over a socket is a number at first"
)]
fn receive(socket: i32) -> Result<Option<OwnedFd>, Failure> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part
            && let [descriptor] = descriptors[..]
        {
            // SAFETY: the kernel has just made it, for this process, and nobody else knows of it.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    Ok(None)
}
