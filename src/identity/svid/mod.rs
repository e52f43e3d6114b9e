//! X.509-SVIDs: the rules of the standard, and the certificates that keep them.

pub(super) mod certificate;
mod description;
mod error;
pub(super) mod rules;
pub(super) mod strength;
pub(super) mod text;
mod x509_svid;

pub use certificate::san_of_refused;
pub use description::CertificateDescription;
pub use error::SvidError;
pub use rules::{RuleOutcome, RuleVerdict, judge};
pub use x509_svid::X509Svid;
