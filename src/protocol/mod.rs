//! The protocols that portcullis understands, one folder each.

mod downstream;
mod ending;
pub mod http;
pub mod postgres;
pub mod tcp;

pub use downstream::{Activity, Downstream};
pub use ending::{Closed, Last, Notice};
