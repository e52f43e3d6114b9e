//! Where our own identity comes from, in generations that are checked as a whole.

mod files;
mod generation;

pub use files::{FileSource, FileSourcePaths, Reloaded, SourceError};
pub use generation::{GenerationError, X509Generation, X509Source};
