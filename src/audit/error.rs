//! Why records cannot be written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why there are no records.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The file's directory is not there.
    #[error("audit file `{}`: directory `{}` does not exist", path.display(), directory.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
    /// The sink cannot be opened.
    #[error("audit {sink} cannot be opened: {source}")]
    Open {
        /// Which sink.
        sink: String,
        /// Why.
        source: io::Error,
    },
    /// A record could not be written.
    #[error("audit record cannot be written: {source}")]
    Write {
        /// Why.
        source: io::Error,
    },
}
