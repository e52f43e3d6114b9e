//! The methods of the Workload API.

use std::time::SystemTime;

use futures_util::Stream;
use futures_util::stream;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Context, Future, Poll, Service};
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use workload_prost::Message;

use super::{
    FETCH_JWT_BUNDLES, FETCH_X509_SVID, JwtBundlesRequest, JwtSvidRequest, Offer, SECURITY_HEADER,
    ValidateJwtSvidRequest, X509BundlesRequest, X509SvidRequest,
};

/// Answers one call.
pub(super) async fn answer(offers: watch::Receiver<Offer>, request: Request<Incoming>) -> Response<Body> {
    if request.headers().get(SECURITY_HEADER).is_none_or(|value| value != "true") {
        // Workload Endpoint 6: a request without it MUST be answered so.
        let message = format!("metadata `{SECURITY_HEADER}: true` is missing");
        return Status::invalid_argument(message).into_http();
    }
    match request.uri().path() {
        FETCH_X509_SVID => pushed::<X509SvidRequest, _>(offers, request, Offer::x509_svids).await,
        "/SpiffeWorkloadAPI/FetchX509Bundles" => {
            pushed::<X509BundlesRequest, _>(offers, request, Offer::x509_bundles).await
        }
        FETCH_JWT_BUNDLES => pushed::<JwtBundlesRequest, _>(offers, request, Offer::jwt_bundles).await,
        "/SpiffeWorkloadAPI/FetchJWTSVID" => {
            let svids = |offer: &Offer, call: &JwtSvidRequest| offer.jwt_svids(call, SystemTime::now());
            once(offers, request, svids).await
        }
        "/SpiffeWorkloadAPI/ValidateJWTSVID" => {
            once(offers, request, |offer: &Offer, call: &ValidateJwtSvidRequest| offer.validate(call)).await
        }
        // The WIT-SVID profile among them, which the standard allows to leave out in just this way.
        _ => Status::unimplemented("no such method").into_http(),
    }
}

/// One answer.
async fn once<Q, A>(
    offers: watch::Receiver<Offer>,
    request: Request<Incoming>,
    answer: impl Fn(&Offer, &Q) -> Result<A, Status>,
) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
{
    let call = Call(|call: tonic::Request<Q>| {
        let answered = answer(&offers.borrow(), call.get_ref());
        std::future::ready(answered.map(tonic::Response::new))
    });
    Grpc::new(ProstCodec::<A, Q>::default()).unary(call, request).await
}

/// An answer at once and another whenever it changes.
async fn pushed<Q, A>(
    offers: watch::Receiver<Offer>,
    request: Request<Incoming>,
    answer: fn(&Offer) -> Result<A, Status>,
) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + PartialEq + Clone + 'static,
{
    let call = Call(|_: tonic::Request<Q>| {
        let first = answer(&offers.borrow());
        std::future::ready(first.map(|_| tonic::Response::new(changes(offers.clone(), answer))))
    });
    Grpc::new(ProstCodec::<A, Q>::default()).server_streaming(call, request).await
}

/// Each message has everything (Workload API 4.3); one that says what the last one said is not sent.
fn changes<A: PartialEq + Clone>(
    offers: watch::Receiver<Offer>,
    answer: fn(&Offer) -> Result<A, Status>,
) -> impl Stream<Item = Result<A, Status>> {
    stream::unfold(Some((offers, None)), move |state: Option<(watch::Receiver<Offer>, Option<A>)>| async move {
        let (mut offers, last) = state?;
        loop {
            let next = answer(&offers.borrow_and_update());
            match next {
                Err(status) => return Some((Err(status), None)),
                Ok(next) if last.as_ref() != Some(&next) => {
                    return Some((Ok(next.clone()), Some((offers, Some(next)))));
                }
                Ok(_) => offers.changed().await.ok()?,
            }
        }
    })
}

/// A function as tonic's server calls it.
struct Call<F>(F);

impl<F, M, R, T> Service<M> for Call<F>
where
    F: FnMut(M) -> R,
    R: Future<Output = Result<T, Status>>,
{
    type Response = T;
    type Error = Status;
    type Future = R;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: M) -> R {
        (self.0)(message)
    }
}
