//! Reads the files of a policy directory, or of a bundle of one, all at once and within limits.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::problem::{PolicyErrors, PolicyProblem, Problems, SourceFile};
use crate::policy::schema::{SHIPPED_SCHEMA, SHIPPED_SCHEMA_FILE};

/// Longest file. 10,000 policies take about 2 MiB.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Most files of one directory.
pub(in crate::policy) const MAX_FILES: usize = 10_000;
/// All files together.
const MAX_TOTAL_BYTES: usize = 64 * 1024 * 1024;

/// A folder that changes at every one of so many looks is taken as the last one found it.
const MAX_LOOKS: usize = 8;

const ENTITIES_FILE: &str = "entities.json";
/// Every `*.json` in it is read as well.
const ENTITIES_FOLDER: &str = "entities";
/// What policies are to keep to. None of them themselves.
pub(in crate::policy) const INVARIANTS_FILE: &str = "invariants.yaml";
/// That they do. Named where it is written, too.
pub(in crate::policy) const PROOF_FILE: &str = "proof.json";

/// A file beside the policies; none if it is not there.
type Beside = Result<Option<Arc<SourceFile>>, PolicyProblem>;

/// What a policy directory holds, in the order of the names. Other files are not looked at.
#[derive(Debug, Clone)]
pub(in crate::policy) struct PolicyFiles {
    pub(in crate::policy) directory: Arc<SourceFile>,
    pub(in crate::policy) policies: Vec<Arc<SourceFile>>,
    pub(in crate::policy) schemas: Vec<Arc<SourceFile>>,
    /// `entities.json` and `entities/*.json`: together they are one list.
    pub(in crate::policy) entities: Vec<Arc<SourceFile>>,
    /// `sha256:HEX` over the names and contents of all of them.
    pub(in crate::policy) digest: String,
    /// What the policies are to keep to. It is no part of them, so not of their digest.
    pub(in crate::policy) invariants: Beside,
    /// What is said to be proved of them.
    pub(in crate::policy) proof: Beside,
}

impl PolicyFiles {
    /// Reads until two looks in a row find the same. Kubernetes swaps all files of a mount at once; a look that falls into the
    /// swap finds some old and some new ones, which nobody has written together.
    pub(in crate::policy) fn read_settled(directory: &Path) -> Result<Self, PolicyErrors> {
        let mut last = Self::read(directory);
        for _ in 0..MAX_LOOKS {
            let next = Self::read(directory);
            match (last, next) {
                (Ok(last), Ok(next)) if last.is(&next) => return Ok(next),
                (_, next) => last = next,
            }
        }
        last
    }

    /// Whether both hold the same.
    pub(in crate::policy) fn is(&self, other: &Self) -> bool {
        let text = |beside: &Beside| beside.as_ref().ok().cloned().flatten().map(|file| file.text().to_owned());
        let is = |one, other| text(one) == text(other);
        self.digest == other.digest && is(&self.invariants, &other.invariants) && is(&self.proof, &other.proof)
    }

    /// Reads `*.cedar`, `*.cedarschema`, `entities.json` and `entities/*.json` of `directory`, and what stands beside them.
    pub(in crate::policy) fn read(directory: &Path) -> Result<Self, PolicyErrors> {
        let shown = directory.display().to_string();
        let fault = |what: String| PolicyErrors::one(PolicyProblem::error(&SourceFile::new(&shown, ""), None, what));
        let names = names(directory).map_err(|cause| fault(format!("policy directory cannot be read: {cause}")))?;
        let count = names.len();
        let texts = names.into_iter().map(|name| {
            let text = read(&directory.join(&name));
            (name, text)
        });
        let files = Self::gather(&shown, count, texts)?;
        let (invariants, proof) = (beside(&directory.join(INVARIANTS_FILE)), beside(&directory.join(PROOF_FILE)));
        Ok(Self { invariants, proof, ..files })
    }

    /// Takes those of `files` that are read from a directory, by their names in it.
    pub(in crate::policy) fn of<'a>(
        shown: &str,
        files: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, PolicyErrors> {
        let files: Vec<_> = files.collect();
        let beside = |name: &str| {
            let Some((_, bytes)) = files.iter().find(|(other, _)| *other == name) else { return Ok(None) };
            let place = format!("{shown}/{name}");
            match text(bytes.to_vec()) {
                Ok(text) => Ok(Some(SourceFile::new(place, text))),
                Err(cause) => Err(PolicyProblem::error(&SourceFile::new(place, ""), None, cause.to_string())),
            }
        };
        let (invariants, proof) = (beside(INVARIANTS_FILE), beside(PROOF_FILE));
        let mut files: Vec<_> = files.into_iter().filter(|(name, _)| is_ours(name)).collect();
        files.sort_unstable_by_key(|(name, _)| *name);
        let texts = files.iter().map(|(name, bytes)| ((*name).to_owned(), text(bytes.to_vec())));
        let files = Self::gather(shown, files.len(), texts)?;
        Ok(Self { invariants, proof, ..files })
    }

    /// No file at all.
    pub(in crate::policy) fn none(shown: &str) -> Self {
        Self {
            directory: SourceFile::new(shown, ""),
            policies: Vec::new(),
            schemas: Vec::new(),
            entities: Vec::new(),
            digest: text_digest(""),
            invariants: Ok(None),
            proof: Ok(None),
        }
    }

    fn gather(
        shown: &str,
        count: usize,
        texts: impl Iterator<Item = (String, io::Result<String>)>,
    ) -> Result<Self, PolicyErrors> {
        let mut files = Self::none(shown);
        let place = Arc::clone(&files.directory);
        let fault = |what: String| PolicyErrors::one(PolicyProblem::error(&place, None, what));
        if count > MAX_FILES {
            return Err(fault(format!("policy directory has {count} files, at most {MAX_FILES} are read")));
        }
        let mut problems = Problems::default();
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut total = 0;
        for (name, text) in texts {
            let path = Path::new(shown).join(&name).display().to_string();
            let text = match text {
                Ok(text) => text,
                Err(cause) => {
                    problems.push(PolicyProblem::error(&SourceFile::new(path, ""), None, cause.to_string()));
                    continue;
                }
            };
            total += text.len();
            if total > MAX_TOTAL_BYTES {
                return Err(fault(format!("policy files have more than {MAX_TOTAL_BYTES} bytes together")));
            }
            for part in [name.as_bytes(), text.as_bytes()] {
                hash.update(&(part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            files.add(&name, &path, text, &mut problems);
        }
        files.digest = named_digest(hash.finish());
        problems.verdict()?;
        Ok(files)
    }

    fn add(&mut self, name: &str, path: &str, text: String, problems: &mut Problems) {
        let file = SourceFile::new(path, text);
        if name.ends_with(".json") {
            self.entities.push(file);
        } else if name == SHIPPED_SCHEMA_FILE {
            if file.text() != SHIPPED_SCHEMA {
                problems.push(
                    PolicyProblem::error(&file, None, "is not the schema that this version of portcullis ships").help(
                        "the shipped schema is built in and cannot be changed: remove this file, or replace it by an unchanged copy. \
                         Types and actions of your own go into a *.cedarschema file of another name",
                    ),
                );
            }
        } else if name.ends_with(".cedarschema") {
            self.schemas.push(file);
        } else {
            self.policies.push(file);
        }
    }
}

/// The names of the files that are ours, sorted, as they are written below the directory.
pub(in crate::policy) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = names_in(directory, "")?;
    let folder = directory.join(ENTITIES_FOLDER);
    match names_in(&folder, ENTITIES_FOLDER) {
        Ok(inner) => names.extend(inner),
        // A link that leads nowhere is a mount that is not there yet, and no sign that there are no entities: without them a forbid by
        // Group would match nobody.
        Err(_) if folder.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => {}
        Err(error) => return Err(io::Error::new(error.kind(), format!("`{ENTITIES_FOLDER}`: {error}"))),
    }
    names.sort_unstable();
    Ok(names)
}

fn names_in(directory: &Path, below: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let name = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        if is_ours(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a file of this name below the directory is read. Hidden ones are the editor's, or Kubernetes' own (`..data`).
fn is_ours(name: &str) -> bool {
    match name.split_once('/') {
        None if name.starts_with('.') => false,
        None => name == ENTITIES_FILE || name.ends_with(".cedar") || name.ends_with(".cedarschema"),
        Some((folder, inner)) => {
            folder == ENTITIES_FOLDER && !inner.contains('/') && !inner.starts_with('.') && inner.ends_with(".json")
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    // A symbolic link is followed: Kubernetes mounts every file as one.
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    text(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("file has more than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|cause| io::Error::other(format!("file is not UTF-8: {cause}")))
}

/// Reads a file that need not be there.
pub(in crate::policy) fn beside(path: &Path) -> Beside {
    let shown = path.display().to_string();
    match read(path) {
        Ok(text) => Ok(Some(SourceFile::new(shown, text))),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(PolicyProblem::error(&SourceFile::new(shown, ""), None, cause.to_string())),
    }
}

/// `sha256:HEX` of a text.
pub(in crate::policy) fn text_digest(text: &str) -> String {
    named_digest(digest::digest(&digest::SHA256, text.as_bytes()))
}

fn named_digest(digest: digest::Digest) -> String {
    format!("sha256:{}", hex(digest.as_ref()))
}

pub(in crate::policy) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
