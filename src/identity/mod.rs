//! Who a workload is: SPIFFE IDs, X.509-SVIDs, trust bundles, and where they come from.

mod spiffe_id;

pub use spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
