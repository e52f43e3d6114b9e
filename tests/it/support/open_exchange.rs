//! An HTTP exchange that stays open: what is sent comes back, for as long as it lasts.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::{Client, within};
use crate::streaming::{Pieces, of};

/// A request body that is not finished, to an upstream that echoes.
#[derive(Debug)]
pub(crate) struct OpenExchange {
    pieces: mpsc::UnboundedSender<Bytes>,
    echoed: Incoming,
}

impl OpenExchange {
    /// Opens it on `client`, and sees that it works.
    pub(crate) async fn on(client: &mut Client, path: &str) -> Self {
        let (pieces, body) = mpsc::unbounded_channel();
        let answer = client.stream(of(client, "POST", path, Pieces(body))).await.expect("is permitted");
        assert!(answer.status().is_success(), "{answer:?}");
        let mut open = Self { pieces, echoed: answer.into_body() };
        open.lives().await;
        open
    }

    /// Whether something that is sent comes back.
    pub(crate) async fn is_alive(&mut self) -> bool {
        if self.pieces.send(Bytes::from_static(b"piece")).is_err() {
            return false;
        }
        let mut back = 0;
        while back < 5 {
            match within("the echo", self.echoed.frame()).await {
                Some(Ok(frame)) => back += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => return false,
            }
        }
        true
    }

    /// The same, asserted.
    pub(crate) async fn lives(&mut self) {
        assert!(self.is_alive().await, "the exchange was cut");
    }

    /// Waits for a cut, though nobody here ends it.
    pub(crate) async fn is_cut(&mut self) {
        while let Some(frame) = within("the cut", self.echoed.frame()).await {
            if frame.is_err() {
                return;
            }
        }
        panic!("the body ended in order");
    }

    /// Ends it in order.
    pub(crate) async fn finish(self) {
        drop(self.pieces);
        let rest = within("the end", self.echoed.collect()).await.expect("ends in order");
        assert_eq!(rest.to_bytes(), "");
    }
}
