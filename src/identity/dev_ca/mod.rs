//! A certificate authority for development, the demo and tests. Production has a real one.

mod authority;
mod crl;
mod jwt;
mod params;

pub use super::der::der;
pub use authority::{DevCa, DevCaError, Minted};
pub use crl::CrlParams;
pub use jwt::{JwtSigner, JwtSignerError};
pub use params::{San, SvidParams};
pub use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
