//! How a parent and a process it has just started find each other.
//!
//! `IpcOneShotServer` waits for a connection without end and makes a socket in a directory below
//! the one for temporary files. So:
//!
//! - the name is removed as soon as it is made. The parent holds on to the socket by an `O_PATH`
//!   descriptor, which the worker inherits and connects to as `/proc/self/fd/N`: for the rest of
//!   the start nobody can come by a name, and nothing is left behind;
//! - whoever learns that the worker will not come (it died, time is up) [releases](Release) the
//!   waiting parent by connecting to the server and saying nothing. The socket for it is made
//!   beforehand, so that it works without a free descriptor.
//!
//! The worker makes both channels and sends their ends, with a token that only it was told, and
//! the fingerprint of its functions.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ipc_channel::IpcError;
use ipc_channel::ipc::{IpcOneShotServer, IpcSender};
use serde::{Deserialize, Serialize};

use super::parent::{self, Events, Farewell, Link};
use super::{Lanes, WorkerEnd};
use crate::os::{descriptor, pidfd::PidFd};
use crate::wire::{self, Freight, Inbox, Outbox};

/// The longest path a socket can be bound to (`sun_path` less its NUL), less what is added to the
/// directory (`/.tmpXXXXXX/socket`).
const DIRECTORY_BYTES: usize = 107 - 18;

/// The first and only message over the server.
#[derive(Serialize, Deserialize)]
struct Hello {
    token: u64,
    greeting: Greeting,
    /// Parent to worker.
    down: Outbox,
    /// Worker to parent, and an end of it for the farewell.
    up: Inbox,
    farewell: Outbox,
}

/// What a worker says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) fingerprint: u64,
    pub(crate) function_count: u64,
    /// Why it cannot work after all.
    pub(crate) failure: Option<String>,
}

/// The parent's end before the worker has come.
pub(crate) struct Server {
    server: IpcOneShotServer<Hello>,
    anchor: Arc<OwnedFd>,
    release: Release,
    token: u64,
}

/// Lets a parent go that waits in [`Server::accept`]; once it has returned, nothing.
#[derive(Clone)]
pub(crate) struct Release(Arc<Mutex<Option<Doorbell>>>);

/// A socket, and what it connects to.
struct Doorbell {
    socket: OwnedFd,
    anchor: Arc<OwnedFd>,
}

impl Release {
    /// Connects, and hangs up.
    pub(crate) fn release(&self) {
        if let Some(Doorbell { socket, anchor }) = self.take() {
            let path = descriptor::path_of(anchor.as_fd());
            // It fails if the server is closed, and then nobody waits.
            let _ = descriptor::connect_to(&socket, &path);
        }
    }

    /// Whether the parent may still be waiting.
    pub(crate) fn is_pending(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    fn take(&self) -> Option<Doorbell> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Server {
    /// Opens a server that is known to those only who get its [anchor](Server::anchor).
    pub(crate) fn open() -> io::Result<Server> {
        wire::prepare()?;
        // Without a descriptor it could not remove the directory it has just made.
        descriptor::require_room(6)?;
        check_directory(&std::env::temp_dir())?;
        // It panics where it cannot make its directory all the same.
        let (server, path) = catch_unwind(IpcOneShotServer::new).map_err(|_| {
            io::Error::other("the directory for temporary files cannot be used: set TMPDIR")
        })??;
        let path = Path::new(&path);
        let anchor = descriptor::anchor(path).and_then(descriptor::above_standard);
        // The server would remove both itself, but only when it is dropped.
        let _ = std::fs::remove_file(path);
        let _ = path.parent().map(std::fs::remove_dir);
        let anchor = Arc::new(anchor?);
        let release = Doorbell {
            socket: descriptor::packet_socket()?,
            anchor: Arc::clone(&anchor),
        };
        let release = Release(Arc::new(Mutex::new(Some(release))));
        Ok(Server {
            server,
            anchor,
            release,
            token: random(),
        })
    }

    /// What the worker inherits, to connect by.
    pub(crate) fn anchor(&self) -> &OwnedFd {
        &self.anchor
    }

    /// What the worker has to be told.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    pub(crate) fn releaser(&self) -> Release {
        self.release.clone()
    }

    /// Waits for the worker, or to be released.
    pub(crate) fn accept(self) -> io::Result<(Greeting, Channels)> {
        let Server {
            server,
            anchor,
            release,
            token,
        } = self;
        // A message whose descriptors find no room makes `ipc-channel` panic.
        let accepted = descriptor::require_room(8).and_then(|()| {
            match catch_unwind(AssertUnwindSafe(|| server.accept())) {
                Ok(Ok((_, hello))) => Ok(hello),
                Ok(Err(IpcError::Io(error))) => Err(error),
                Ok(Err(error)) => Err(io::Error::other(error)),
                Err(_) => Err(io::Error::other("its first message could not be taken in")),
            }
        });
        release.take();
        drop(anchor);
        let hello = accepted?;
        if hello.token != token {
            return Err(io::Error::other(
                "a process answered that had not been started for it",
            ));
        }
        let Hello {
            greeting,
            down,
            up,
            farewell,
            ..
        } = hello;
        Ok((greeting, Channels { down, up, farewell }))
    }
}

/// Checks what `IpcOneShotServer` takes for granted of the directory for temporary files.
fn check_directory(dir: &Path) -> io::Result<()> {
    let complaint = if dir.to_str().is_none() {
        "is not UTF-8".to_owned()
    } else if dir.as_os_str().len() > DIRECTORY_BYTES {
        format!("is longer than {DIRECTORY_BYTES} bytes, too long for a socket in it")
    } else if let Err(error) = descriptor::check_writable(dir) {
        format!("cannot be used: {error}")
    } else {
        return Ok(());
    };
    let message = format!(
        "the directory for temporary files, {}, {complaint}; set TMPDIR to another",
        dir.display()
    );
    Err(io::Error::other(message))
}

/// What a worker sent with its greeting.
pub(crate) struct Channels {
    down: Outbox,
    up: Inbox,
    farewell: Outbox,
}

impl Channels {
    /// Opens the link.
    pub(crate) fn open(
        self,
        lanes: Lanes,
        pidfd: Arc<PidFd>,
        freight: Freight,
    ) -> (Link, Events, Farewell) {
        let Channels { down, up, farewell } = self;
        let (down, up) = (down.with_freight(freight.clone()), up.with_freight(freight));
        parent::open(lanes, down, up, farewell, pidfd)
    }
}

impl WorkerEnd {
    /// The worker's part: connects to the server behind `anchor` and introduces itself.
    pub(crate) fn introduce(
        anchor: OwnedFd,
        token: u64,
        greeting: Greeting,
        lanes: Lanes,
        freight: Freight,
    ) -> io::Result<WorkerEnd> {
        let sender: IpcSender<Hello> = IpcSender::connect(descriptor::path_of(anchor.as_fd()))?;
        wire::prepare()?;
        let (down, inbox) = wire::connect()?;
        let (outbox, up) = wire::connect()?;
        let hello = Hello {
            token,
            greeting,
            down,
            up,
            farewell: outbox.clone(),
        };
        sender.send(hello).map_err(io::Error::other)?;
        let (inbox, outbox) = (
            inbox.with_freight(freight.clone()),
            outbox.with_freight(freight),
        );
        Ok(WorkerEnd::new(inbox, outbox, lanes))
    }
}

/// A number nobody can guess: what the standard library seeds its hashers with.
fn random() -> u64 {
    use std::hash::BuildHasher as _;
    std::hash::RandomState::new().hash_one(std::process::id())
}
