//! Calls that stay open.

use std::time::Duration;

use spiffe::transport::Endpoint;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;
use workload_prost::Message;

use super::WorkloadApiError;
use crate::identity::workload_api::{
    FETCH_JWT_BUNDLES, FETCH_X509_SVID, JwtBundlesRequest, JwtBundlesResponse, SECURITY_HEADER, WorkloadApiAddress,
    X509SvidRequest, X509SvidResponse,
};

/// For the connection, and then for the first message, which an agent sends without delay (Workload API 4.3).
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A connection to a Workload API.
pub(super) struct Connection {
    address: WorkloadApiAddress,
    channel: Channel,
}

/// Messages as they are pushed.
pub(super) struct Pushed<M> {
    address: WorkloadApiAddress,
    stream: Streaming<M>,
    has_begun: bool,
}

impl Connection {
    pub(super) async fn to(address: &WorkloadApiAddress) -> Result<Self, WorkloadApiError> {
        let connecting = spiffe::transport::connect(&endpoint(address)).await;
        let channel = connecting
            .map_err(|error| WorkloadApiError::Unreachable { address: address.clone(), detail: root_cause(&error) })?;
        Ok(Self { address: address.clone(), channel })
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) async fn x509_svids(self) -> Result<Pushed<X509SvidResponse>, WorkloadApiError> {
        self.call(FETCH_X509_SVID, X509SvidRequest {}).await
    }

    pub(super) async fn jwt_bundles(self) -> Result<Pushed<JwtBundlesResponse>, WorkloadApiError> {
        self.call(FETCH_JWT_BUNDLES, JwtBundlesRequest {}).await
    }

    async fn call<Q, A>(self, path: &'static str, message: Q) -> Result<Pushed<A>, WorkloadApiError>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let Self { address, channel } = self;
        let mut request = Request::new(message);
        request.metadata_mut().insert(SECURITY_HEADER, MetadataValue::from_static("true"));
        let mut grpc = Grpc::new(channel);
        let calling = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.server_streaming(request, http::uri::PathAndQuery::from_static(path), ProstCodec::<Q, A>::default())
                .await
        };
        match tokio::time::timeout(ANSWER_WITHIN, calling).await {
            Ok(Ok(answer)) => Ok(Pushed { address, stream: answer.into_inner(), has_begun: false }),
            Ok(Err(status)) => Err(WorkloadApiError::from_status(&address, &status)),
            Err(_) => Err(silent(address)),
        }
    }
}

impl<M> Pushed<M> {
    /// The next message, or why there will be none.
    pub(super) async fn next(&mut self) -> Result<M, WorkloadApiError> {
        let next = match self.has_begun {
            true => self.stream.message().await,
            false => match tokio::time::timeout(ANSWER_WITHIN, self.stream.message()).await {
                Ok(first) => first,
                Err(_) => return Err(silent(self.address.clone())),
            },
        };
        self.has_begun = true;
        match next {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(WorkloadApiError::Ended { address: self.address.clone() }),
            Err(status) => Err(WorkloadApiError::from_status(&self.address, &status)),
        }
    }
}

/// The address as the crate has it.
pub(super) fn endpoint(address: &WorkloadApiAddress) -> Endpoint {
    match address {
        WorkloadApiAddress::Unix(path) => Endpoint::Unix(path.clone()),
        WorkloadApiAddress::Tcp(address) => Endpoint::Tcp { host: address.ip(), port: address.port() },
    }
}

fn silent(address: WorkloadApiAddress) -> WorkloadApiError {
    WorkloadApiError::Silent { address, seconds: ANSWER_WITHIN.as_secs() }
}

/// What the system said: each layer above it only says that there was no connection.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
