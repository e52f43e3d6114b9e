//! A connection while one exchange uses it.

use std::sync::Arc;

use super::Progress;
use super::http1::{Http1, Idle};
use super::http2::Http2;
use crate::tls::Stay;

/// Holds a connection for as long as its answer is being read.
///
/// Dropped early, the exchange is broken off: an HTTP/1.1 connection is closed, an HTTP/2 stream reset.
#[derive(Debug)]
pub struct Lease(Kind);

#[derive(Debug)]
enum Kind {
    Http1 { connection: Http1, idle: Arc<Idle>, upload: Option<Arc<Progress>> },
    Http2 { _place: Http2 },
}

impl Lease {
    pub(super) const fn http1(connection: Http1, idle: Arc<Idle>, upload: Option<Arc<Progress>>) -> Self {
        Self(Kind::Http1 { connection, idle, upload })
    }

    pub(super) const fn http2(place: Http2) -> Self {
        Self(Kind::Http2 { _place: place })
    }

    /// How long the connection may stay, for what it becomes by an upgrade.
    #[must_use]
    pub fn stay(&self) -> Option<Stay> {
        match &self.0 {
            Kind::Http1 { connection, .. } => connection.stay(),
            Kind::Http2 { .. } => None,
        }
    }

    /// The answer was read to its end: the connection may serve the next request.
    ///
    /// An HTTP/1.1 upstream that answered before it had read the whole request leaves a connection that nobody can use again.
    pub fn finished(self) {
        if let Kind::Http1 { connection, idle, upload } = self.0
            && upload.is_none_or(|upload| upload.ended())
        {
            idle.put(connection);
        }
    }
}
