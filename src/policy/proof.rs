//! `proof.json`: that policies keep to their invariants, as `portcullis policy prove` found, and whether it is about these policies.
//!
//! It is a note of what was proved of which files, not a signature: whoever may write the directory may write it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::generation::PolicySource;
use super::load::{PROOF_FILE, PolicyFiles, PolicyProblem, Problems, SourceFile, text_digest};
use super::schema::SHIPPED_SCHEMA;

/// The form that is written and read.
const FORM: u32 = 1;

/// What was proved of what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    form: u32,
    /// The digest of the policies, as records have it.
    policies: String,
    /// Of `invariants.yaml`.
    invariants: String,
    /// Of the schema that portcullis ships: what an action is in follows from it.
    schema: String,
    /// The invariants by name.
    proved: Vec<String>,
    /// When, RFC 3339.
    proved_at: String,
    /// How long it took.
    seconds: f64,
    /// The solver by its own words; none if none was needed.
    solver: Option<String>,
    /// The version that proved it.
    portcullis: String,
}

/// How a proof came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Proving {
    /// The invariants by name.
    pub proved: Vec<String>,
    /// When, RFC 3339.
    pub at: String,
    /// How long it took.
    pub seconds: f64,
    /// The solver by its own words; none if none was needed.
    pub solver: Option<String>,
}

impl Proof {
    /// That policies of this digest keep to all invariants of a file of that digest.
    #[must_use]
    pub fn new(policies: &str, invariants: &str, proving: Proving) -> Self {
        let Proving { proved, at, seconds, solver } = proving;
        Self {
            form: FORM,
            policies: policies.to_owned(),
            invariants: invariants.to_owned(),
            schema: text_digest(SHIPPED_SCHEMA),
            proved,
            proved_at: at,
            seconds,
            solver,
            portcullis: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Writes `proof.json` into the directory, whole or not at all.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<PathBuf> {
        let path = directory.join(PROOF_FILE);
        // A hidden name: what is not finished is no file of the directory.
        let unfinished = directory.join(format!(".{PROOF_FILE}.{}", std::process::id()));
        let written = (|| {
            let mut file = std::fs::File::create(&unfinished)?;
            file.write_all(format!("{:#}\n", serde_json::to_value(self)?).as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        written.map(|()| path)
    }

    /// Why it is no proof of these files.
    fn fault(&self, files: &PolicyFiles, invariants: Option<&SourceFile>) -> Option<String> {
        if self.form != FORM {
            return Some(format!("proof has the form {}, and this version reads {FORM}", self.form));
        }
        if self.policies != files.digest {
            return Some(format!(
                "proof is of other policies: of {}, and the directory holds {}",
                self.policies, files.digest
            ));
        }
        let Some(invariants) = invariants else {
            return Some("proof is of invariants that are gone: there is no `invariants.yaml`".to_owned());
        };
        if self.invariants != text_digest(invariants.text()) {
            return Some("proof is of other invariants than those of `invariants.yaml`".to_owned());
        }
        let other_schema = self.schema != text_digest(SHIPPED_SCHEMA);
        other_schema.then(|| {
            format!(
                "proof is by version {}, whose schema is not that of this version ({})",
                self.portcullis,
                env!("CARGO_PKG_VERSION")
            )
        })
    }
}

/// Holds `proof.json` against the files: an error where a proof is required, a warning where one is there that is not of these files.
pub(super) fn check(files: &PolicyFiles, source: &PolicySource, problems: &mut Problems) {
    let Err(problem) = checked(files) else { return };
    let is_there = !matches!(files.proof, Ok(None));
    if source.require_proof {
        problems.push(problem);
    } else if is_there {
        problems.push(problem.into_warning());
    }
}

/// Whether what is required of a proof holds.
///
/// # Errors
/// Why it does not.
pub(super) fn required(files: &PolicyFiles, source: &PolicySource) -> Result<(), PolicyProblem> {
    if source.require_proof { checked(files) } else { Ok(()) }
}

fn checked(files: &PolicyFiles) -> Result<(), PolicyProblem> {
    let directory = files.directory.name();
    let help = format!("prove it with this version: `portcullis policy prove --policies {directory} --write`");
    let Some(file) = files.proof.as_ref().map_err(Clone::clone)? else {
        let problem = PolicyProblem::error(
            &files.directory,
            None,
            format!("there is no `{PROOF_FILE}`, and `policy.require_proof` is true"),
        );
        return Err(problem.help(help));
    };
    let invariants = files.invariants.as_ref().map_err(Clone::clone)?;
    let fault = match serde_json::from_str::<Proof>(file.text()) {
        Ok(proof) => proof.fault(files, invariants.as_deref()),
        Err(cause) => Some(format!("file is no proof: {cause}")),
    };
    fault.map_or(Ok(()), |fault| Err(PolicyProblem::error(file, None, fault).help(help)))
}
