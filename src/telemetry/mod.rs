//! What the process tells about itself: logs by `tracing`, metrics for Prometheus.
//!
//! Knows no configuration and no other module but the drain: everybody may use it.

mod bundle;
mod catalogue;
mod federation;
mod listener;
pub mod logs;
pub mod metrics;
mod process;
mod service;
mod trust;

pub use bundle::BundleMetrics;
pub use catalogue::{CATALOGUE, Described, Kind};
pub use federation::{CrlExpiry, FederationMetrics, Refresh, crls_in_force};
pub use listener::{ConnectionGuard, ListenerMetrics};
pub use metrics::MetricsHandle;
pub use service::{AuditMetrics, IdentitySourceMetrics, MemoryMetrics, PolicyMetrics, Reload, SvidMetrics};
pub use trust::{BundleExpiry, bundles_in_force};
