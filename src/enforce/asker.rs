//! Who asks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answer::Answers;
use crate::policy::{PolicyGeneration, Principal};
use crate::tls::Peer;

/// Who asks on a connection: its verified peer, and what policies need to know of it, found once.
#[derive(Debug)]
pub struct Asker {
    pub(super) peer: Arc<Peer>,
    pub(super) address: Option<SocketAddr>,
    /// The same as records write it; made once.
    pub(super) address_text: Option<Box<str>>,
    principal: Mutex<Option<(u64, Arc<Principal>)>>,
    answers: Mutex<Answers>,
}

impl Asker {
    /// The peer of a connection. `address` is none for a Unix socket.
    #[must_use]
    pub fn new(peer: Arc<Peer>, address: Option<SocketAddr>) -> Self {
        let address_text = address.map(|address| address.to_string().into());
        Self { peer, address, address_text, principal: Mutex::new(None), answers: Mutex::default() }
    }

    /// The verified peer.
    #[must_use]
    pub const fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Where it connects from.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    pub(super) fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `generation` knows of the peer: looked up on the connection's first request and after a reload.
    pub(super) fn principal(&self, generation: &PolicyGeneration) -> Arc<Principal> {
        let mut known = self.principal.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((number, principal)) if *number == generation.number() => Arc::clone(principal),
            _ => {
                let principal = generation.principal(self.peer.id());
                *known = Some((generation.number(), Arc::clone(&principal)));
                // They hold the policies that they come from.
                self.answers().forget_others(generation);
                principal
            }
        }
    }
}
