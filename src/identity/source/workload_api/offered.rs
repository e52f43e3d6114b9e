//! What a Workload API offers, for people who look.

use rustls::pki_types::CertificateDer;

use super::connection::Connection;
use super::update::certificates;
use super::{UpdateError, WorkloadApiError};
use crate::identity::workload_api::{WorkloadApiAddress, X509SvidResponse};

/// What a Workload API has for this process: each SVID without its key, and every bundle. Nothing of it is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The SVIDs, the default one first.
    pub svids: Vec<OfferedSvid>,
    /// Bundles of other trust domains, by `spiffe://TRUST-DOMAIN` or the bare name.
    pub federated_bundles: Vec<(String, Vec<CertificateDer<'static>>)>,
    /// How many revocation lists came with them.
    pub crls: usize,
}

/// One SVID of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedSvid {
    /// Whose it says to be.
    pub spiffe_id: String,
    /// What the operator says it is for; empty if nothing.
    pub hint: String,
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The authorities of its trust domain.
    pub bundle: Vec<CertificateDer<'static>>,
}

/// Asks once.
///
/// # Errors
/// It cannot be reached, has nothing for us, or sends what are no certificates.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn offered(address: &WorkloadApiAddress) -> Result<Offered, WorkloadApiError> {
    let message = Connection::to(address).await?.x509_svids().await?.next().await?;
    read(&message).map_err(|source| WorkloadApiError::Update { address: address.clone(), source })
}

fn read(message: &X509SvidResponse) -> Result<Offered, UpdateError> {
    let svid = |svid: &crate::identity::workload_api::X509SvidMessage| {
        Ok(OfferedSvid {
            chain: certificates("x509_svid", &svid.spiffe_id, &svid.x509_svid)?,
            bundle: certificates("bundle", &svid.spiffe_id, &svid.bundle)?,
            spiffe_id: svid.spiffe_id.clone(),
            hint: svid.hint.clone(),
        })
    };
    let bundles = message.federated_bundles.iter();
    Ok(Offered {
        svids: message.svids.iter().map(svid).collect::<Result<_, _>>()?,
        federated_bundles: bundles
            .map(|(name, der)| Ok((name.clone(), certificates("federated_bundles", name, der)?)))
            .collect::<Result<_, _>>()?,
        crls: message.crl.len(),
    })
}
