//! A certificate authority for development, the demo and tests. Production has a real one.

mod authority;
mod der;
mod params;

pub use authority::{DevCa, DevCaError, Minted};
pub use der::der;
pub use params::{San, SvidParams};
pub use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
