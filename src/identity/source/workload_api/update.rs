//! What an update says: our SVID, the bundles of every trust domain, and revocation lists.

use std::collections::BTreeMap;

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::parse_x509_certificate;

use super::{SvidChoice, UpdateError, WorkloadApiPlan};
use crate::identity::source::{Brought, Own};
use crate::identity::workload_api::{JwtBundlesResponse, X509SvidMessage, X509SvidResponse};
use crate::identity::{Crls, JwtAuthority, SpiffeId, TrustBundle, TrustDomain, X509Svid, parse_jwks};

/// One message, taken apart and not yet judged: that is the store's.
#[derive(Debug)]
pub(super) struct Update {
    /// Or why none of its SVIDs is ours.
    own: Result<Own, UpdateError>,
    bundles: BTreeMap<TrustDomain, TrustBundle>,
    crls: BTreeMap<TrustDomain, Crls>,
}

impl Update {
    /// Takes a message apart and picks our SVID.
    pub(super) fn read(message: &X509SvidResponse, plan: &WorkloadApiPlan) -> Result<Self, UpdateError> {
        require_fields(message)?;
        let own = match pick(&message.svids, &plan.choice) {
            Ok(ours) => Ok(own(ours)?),
            // Whom to trust is the agent's word all the same: what it takes back does not count any more.
            Err(not_offered) => Err(not_offered),
        };
        let mut bundles = Bundles::default();
        for svid in &message.svids {
            let id = spiffe_id(&svid.spiffe_id)?;
            bundles.add(trust_domain(id.trust_domain())?, "bundle", &svid.bundle)?;
        }
        for (name, bundle) in &message.federated_bundles {
            // By its SPIFFE ID as the standard says; by the bare name as some servers write it.
            let name = name.strip_prefix("spiffe://").unwrap_or(name);
            bundles.add(trust_domain(name)?, "federated_bundles", bundle)?;
        }
        let mut crls = Crls::new(plan.on_expired_crl);
        for crl in &message.crl {
            crls.add(crl).map_err(|source| UpdateError::Crl { source })?;
        }
        // The lists do not say whose they are.
        let crls = match message.crl.is_empty() {
            true => BTreeMap::new(),
            false => crls.shared_out(bundles.0.values().map(|(_, bundle)| bundle)),
        };
        let bundles = bundles.0.into_iter().map(|(trust_domain, (_, bundle))| (trust_domain, bundle)).collect();
        Ok(Self { own, bundles, crls })
    }

    /// Why our SVID is not in it, if it is not.
    pub(super) fn not_offered(&self) -> Option<&UpdateError> {
        self.own.as_ref().err()
    }

    /// All of it, with the keys of JWT-SVIDs. `without_own` is what the store says if our SVID is not in it.
    pub(super) fn brought(
        &self,
        jwt: &BTreeMap<TrustDomain, Vec<JwtAuthority>>,
        without_own: Option<(&'static str, String)>,
    ) -> Brought {
        let mut bundles = self.bundles.clone();
        for (trust_domain, authorities) in jwt {
            // A trust domain may be federated for its JWT-SVIDs alone; its X.509-SVIDs are not trusted then.
            let bundle = bundles.remove(trust_domain);
            let bundle = bundle.unwrap_or_else(|| TrustBundle::from_certificates(trust_domain.clone(), &[]));
            bundles.insert(trust_domain.clone(), bundle.with_jwt_authorities(authorities.clone()));
        }
        Brought {
            own: self.own.as_ref().ok().cloned(),
            without_own,
            bundles: bundles.into_values().collect(),
            crls: self.crls.clone(),
            ..Brought::default()
        }
    }
}

/// The keys of JWT-SVIDs of each trust domain.
pub(super) fn jwt_authorities(
    message: &JwtBundlesResponse,
) -> Result<BTreeMap<TrustDomain, Vec<JwtAuthority>>, UpdateError> {
    let mut all = BTreeMap::new();
    for (name, keys) in &message.bundles {
        let trust_domain = trust_domain(name.strip_prefix("spiffe://").unwrap_or(name))?;
        let (authorities, ignored) = parse_jwks(keys)
            .map_err(|source| UpdateError::JwtBundle { trust_domain: trust_domain.to_string(), source })?;
        for (index, reason) in ignored {
            tracing::warn!(%trust_domain, index, "key in a JWT bundle is not used: {reason}");
        }
        if all.insert(trust_domain.clone(), authorities).is_some() {
            return Err(UpdateError::TwoBundles { trust_domain: trust_domain.to_string() });
        }
    }
    Ok(all)
}

/// Workload API 4.5 and 5.2.1.
fn require_fields(message: &X509SvidResponse) -> Result<(), UpdateError> {
    if message.svids.is_empty() {
        return Err(UpdateError::Missing { field: "svids" });
    }
    for svid in &message.svids {
        for (field, is_empty) in [
            ("spiffe_id", svid.spiffe_id.is_empty()),
            ("x509_svid", svid.x509_svid.is_empty()),
            ("x509_svid_key", svid.x509_svid_key.is_empty()),
            ("bundle", svid.bundle.is_empty()),
        ] {
            if is_empty {
                return Err(UpdateError::Missing { field });
            }
        }
    }
    Ok(())
}

fn pick<'m>(svids: &'m [X509SvidMessage], choice: &SvidChoice) -> Result<&'m X509SvidMessage, UpdateError> {
    let (picked, wanted) = match choice {
        SvidChoice::First => (svids.first(), "at all".to_owned()),
        // Of several with one hint the first (Workload API 5.2.1).
        SvidChoice::Hint(hint) => (svids.iter().find(|svid| svid.hint == *hint), format!("with the hint `{hint}`")),
        SvidChoice::SpiffeId(id) => (svids.iter().find(|svid| svid.spiffe_id == id.as_str()), format!("of `{id}`")),
    };
    let offered = || svids.iter().map(shown).collect::<Vec<_>>().join(", ");
    picked.ok_or_else(|| UpdateError::NotOffered { wanted, offered: offered() })
}

fn shown(svid: &X509SvidMessage) -> String {
    match svid.hint.as_str() {
        "" => format!("`{}`", svid.spiffe_id),
        hint => format!("`{}` (hint `{hint}`)", svid.spiffe_id),
    }
}

fn own(svid: &X509SvidMessage) -> Result<Own, UpdateError> {
    let chain = certificates("x509_svid", &svid.spiffe_id, &svid.x509_svid)?;
    // What is wrong with the leaf itself the store says, rule by rule.
    if let Some(certified) = chain.first().and_then(|leaf| X509Svid::parse(leaf).ok())
        && certified.id().as_str() != svid.spiffe_id
    {
        return Err(UpdateError::Id { named: svid.spiffe_id.clone(), certified: certified.id().to_string() });
    }
    Ok(Own { chain, key: PrivatePkcs8KeyDer::from(svid.x509_svid_key.to_vec()).into() })
}

/// Bundles by trust domain, each as it came and as it was read.
#[derive(Default)]
struct Bundles(BTreeMap<TrustDomain, (Bytes, TrustBundle)>);

impl Bundles {
    /// SVIDs of one trust domain come with the same bundle each. Two that differ leave it open whom to trust.
    fn add(&mut self, trust_domain: TrustDomain, field: &'static str, der: &Bytes) -> Result<(), UpdateError> {
        match self.0.get(&trust_domain) {
            Some((earlier, _)) if earlier == der => Ok(()),
            Some(_) => Err(UpdateError::TwoBundles { trust_domain: trust_domain.to_string() }),
            None => {
                let certificates = certificates(field, trust_domain.as_str(), der)?;
                let bundle = TrustBundle::from_certificates(trust_domain.clone(), &certificates);
                self.0.insert(trust_domain, (der.clone(), bundle));
                Ok(())
            }
        }
    }
}

/// Certificates that follow each other without anything between them.
pub(super) fn certificates(
    field: &'static str,
    of: &str,
    der: &[u8],
) -> Result<Vec<CertificateDer<'static>>, UpdateError> {
    let mut certificates = Vec::new();
    let mut rest = der;
    while !rest.is_empty() {
        let parsed = parse_x509_certificate(rest).ok();
        let taken = parsed.and_then(|(after, _)| rest.split_at_checked(rest.len().checked_sub(after.len())?));
        let (one, after) = taken.ok_or_else(|| UpdateError::Certificates { field, of: of.to_owned() })?;
        certificates.push(CertificateDer::from(one.to_vec()));
        rest = after;
    }
    Ok(certificates)
}

fn spiffe_id(text: &str) -> Result<SpiffeId, UpdateError> {
    SpiffeId::parse(text).map_err(|source| UpdateError::SpiffeId { text: text.to_owned(), source })
}

fn trust_domain(name: &str) -> Result<TrustDomain, UpdateError> {
    TrustDomain::parse(name).map_err(|source| UpdateError::SpiffeId { text: name.to_owned(), source })
}
