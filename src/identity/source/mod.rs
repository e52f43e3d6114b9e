//! Where our own identity comes from, in generations that are checked as a whole.

mod documents;
mod error;
mod files;
mod generation;
mod part;
mod store;
mod workload_api;

pub use error::SourceError;
pub use files::{FileSource, FileSourcePaths, OwnFiles};
pub use generation::{GenerationError, X509Generation, X509Source};
pub use part::{Brought, Fault, Own, Part, PartHealth};
pub use store::{IdentityStore, Reloaded, StoreError};
pub use workload_api::{
    JwtSource, JwtSvid, Offered, OfferedSvid, SvidChoice, UpdateError, WorkloadApiError, WorkloadApiPlan,
    WorkloadApiSource, offered,
};
