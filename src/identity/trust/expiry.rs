//! When a bundle's authorities run out.

use std::time::SystemTime;

use super::TrustBundle;

impl TrustBundle {
    /// When the first and the last of its authorities expire; none if there is no authority.
    ///
    /// After the first, the workloads that it issued are refused; after the last, the whole trust domain is.
    #[must_use]
    pub fn expiry(&self) -> Option<(SystemTime, SystemTime)> {
        let ends = || self.authorities().map(|(_, limits)| *limits.validity.end());
        ends().min().zip(ends().max())
    }
}
