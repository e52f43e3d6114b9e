//! To be written.

pub mod guard;
pub mod meter;
