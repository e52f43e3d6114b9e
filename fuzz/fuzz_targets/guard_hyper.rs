//! The head guard in front of hyper: hyper never refuses a head that the guard has passed, reads as many heads as the
//! guard has counted, and never a byte of one that was refused.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use portcullis::protocol::http::guard::{Framing, Guard, HeadLimits, HeadVerdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMITS: HeadLimits = HeadLimits {
    header_bytes: 2_048,
    header_count: 16,
    uri_bytes: 256,
    header_read_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(5),
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(serve(bytes));
});

async fn serve(bytes: &[u8]) {
    let (mut client, transport) = tokio::io::duplex(64 * 1024);
    let (guard, handle) = Guard::new(transport, LIMITS);
    let verdicts = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let verdict = handle.next_head();
        // Nobody here switches protocols: the guard goes on with the next head.
        let exchange = handle.exchange();
        let framing = match request.body().size_hint().exact() {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        match &verdict {
            HeadVerdict::Passed(facts) => assert_eq!(facts.framing, framing),
            HeadVerdict::Refused(refusal) => {
                assert_ne!(refusal.rule, "out-of-step");
                assert_eq!((request.uri().path(), request.headers().len()), ("/", 2));
            }
        }
        verdicts.borrow_mut().push(verdict);
        async move {
            let _exchange = exchange;
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let mut builder = http1::Builder::new();
    builder.half_close(true).max_headers(LIMITS.header_count + 1);
    let served = builder.serve_connection(TokioIo::new(guard), service);
    let talk = async {
        for piece in bytes.chunks(1 + usize::from(bytes.first().copied().unwrap_or_default())) {
            if client.write_all(piece).await.is_err() {
                break;
            }
        }
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let (served, ()) = tokio::join!(served, talk);
    if let Err(error) = served {
        assert!(!error.is_parse() || error.is_incomplete_message(), "hyper refused what the guard passed: {error:?}");
    }
}
