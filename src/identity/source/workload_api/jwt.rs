//! JWT-SVIDs of our own, for peers that ask for a token.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spiffe::WorkloadApiClient;

use super::connection::{Connection, endpoint};
use super::{SvidChoice, UpdateError, WorkloadApiError};
use crate::identity::SpiffeId;
use crate::identity::workload_api::WorkloadApiAddress;

/// An agent signs a token in milliseconds; SPIRE's asks its server for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Fetches JWT-SVIDs from a Workload API.
#[derive(Debug, Clone)]
pub struct JwtSource {
    address: WorkloadApiAddress,
    choice: SvidChoice,
}

/// A JWT-SVID of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSvid {
    id: SpiffeId,
    token: String,
    expiry: SystemTime,
}

impl JwtSource {
    /// A source that asks at `address` for the identity of `choice`.
    #[must_use]
    pub const fn new(address: WorkloadApiAddress, choice: SvidChoice) -> Self {
        Self { address, choice }
    }

    /// A new token for these audiences.
    ///
    /// # Errors
    /// There is none: no identity is issued, the agent is not available, or what it sent cannot be used.
    pub async fn fetch(&self, audience: &[String]) -> Result<JwtSvid, WorkloadApiError> {
        let fetching = self.fetch_all(audience);
        let silent = || WorkloadApiError::Silent { address: self.address.clone(), seconds: ANSWER_WITHIN.as_secs() };
        let svids = tokio::time::timeout(ANSWER_WITHIN, fetching).await.map_err(|_| silent())??;
        let unusable = |source| WorkloadApiError::Update { address: self.address.clone(), source };
        let picked = svids.iter().find(|svid| match &self.choice {
            SvidChoice::First => true,
            SvidChoice::Hint(hint) => svid.hint() == Some(hint),
            SvidChoice::SpiffeId(id) => svid.spiffe_id().to_string() == id.as_str(),
        });
        let offered = || svids.iter().map(|svid| format!("`{}`", svid.spiffe_id())).collect::<Vec<_>>().join(", ");
        let picked = picked.ok_or_else(|| {
            unusable(UpdateError::NotOffered { wanted: format!("for {:?}", self.choice), offered: offered() })
        })?;
        if let Some(missing) = audience.iter().find(|asked| !picked.audience().contains(asked)) {
            return Err(unusable(UpdateError::Jwt { detail: format!("it is not for `{missing}`") }));
        }
        let text = picked.spiffe_id().to_string();
        let id = SpiffeId::parse(&text).map_err(|source| unusable(UpdateError::SpiffeId { text, source }))?;
        let seconds = u64::try_from(picked.expiry().unix_timestamp()).unwrap_or_default();
        let expiry = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
        Ok(JwtSvid { id, token: picked.token().to_owned(), expiry })
    }

    async fn fetch_all(&self, audience: &[String]) -> Result<Vec<spiffe::JwtSvid>, WorkloadApiError> {
        let connection = Connection::to(&self.address).await?;
        let client = WorkloadApiClient::new_with_channel(endpoint(&self.address), connection.channel());
        let failed = |error| WorkloadApiError::from_crate(&self.address, &error);
        let wanted = match &self.choice {
            SvidChoice::SpiffeId(id) => Some(spiffe::SpiffeId::new(id.as_str()).map_err(|error| failed(error.into()))?),
            SvidChoice::First | SvidChoice::Hint(_) => None,
        };
        client.fetch_all_jwt_svids(audience, wanted.as_ref()).await.map_err(failed)
    }
}

impl JwtSvid {
    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The token. It is a secret.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// When it ends to be valid.
    #[must_use]
    pub fn expiry(&self) -> SystemTime {
        self.expiry
    }
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSvid").field("id", &self.id).field("expiry", &self.expiry).finish_non_exhaustive()
    }
}
