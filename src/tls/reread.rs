//! What is made of files, and made anew when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use tokio::task::spawn_blocking;

use super::HandshakeRefusal;

/// Handshakes look at the files at most this often: as soon as a rotation of our own SVID is seen.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Made of files, which are looked at again when it is used. Files that are no good leave the last good ones in force.
#[derive(Debug)]
pub(super) struct Reread<T> {
    paths: Vec<PathBuf>,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    made: Option<Arc<T>>,
    /// Of the content that it was made of.
    digest: Option<Vec<u8>>,
    looked: Option<Instant>,
    /// Why the last look changed nothing, as it was said in the log.
    said: Option<String>,
}

impl<T> Reread<T> {
    /// Reads nothing yet. Without files it is made once.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let state = State { made: None, digest: None, looked: None, said: None };
        Self { paths, state: Mutex::new(state) }
    }

    /// What is in force; `make` makes it of the files' content, in their order.
    ///
    /// # Errors
    /// There has never been any that is good. The next call tries again.
    ///
    /// # Cancel safety
    /// What was read is forgotten; a later call looks again.
    pub(super) async fn current(
        &self,
        unreadable: impl Fn(&Path, String) -> HandshakeRefusal,
        make: impl FnOnce(&[Vec<u8>]) -> Result<T, HandshakeRefusal>,
    ) -> Result<Arc<T>, HandshakeRefusal> {
        if let Some(made) = self.of_late() {
            return Ok(made);
        }
        let content = read(self.paths.clone()).await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let content = content.map_err(|(path, cause)| unreadable(&path, cause));
        let made = content.and_then(|content| {
            let digest = digest_of(&content);
            match &state.made {
                Some(made) if state.digest.as_ref() == Some(&digest) => Ok((Arc::clone(made), digest)),
                _ => Ok((Arc::new(make(&content)?), digest)),
            }
        });
        match (made, &state.made) {
            (Ok((made, digest)), _) => {
                (state.made, state.digest, state.said) = (Some(Arc::clone(&made)), Some(digest), None);
                Ok(made)
            }
            (Err(refusal), Some(last)) => {
                let last = Arc::clone(last);
                if state.said.as_ref() != Some(&refusal.message) {
                    tracing::error!(error = %refusal.message, "changed files are no good; the last good ones stay in force");
                    state.said = Some(refusal.message);
                }
                Ok(last)
            }
            (Err(refusal), None) => Err(refusal),
        }
    }

    /// What is in force, if the files need no look now. Of several who ask at once one looks.
    fn of_late(&self) -> Option<Arc<T>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = self.paths.is_empty() || state.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY);
        if is_fresh && state.made.is_some() {
            return state.made.clone();
        }
        state.looked = Some(Instant::now());
        None
    }
}

/// The files' content, not read on a thread that serves connections: a file may be on a network.
async fn read(paths: Vec<PathBuf>) -> Result<Vec<Vec<u8>>, (PathBuf, String)> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let first = paths.first().cloned().unwrap_or_default();
    let read = |path: PathBuf| std::fs::read(&path).map_err(|error| (path, error.to_string()));
    let read = spawn_blocking(move || paths.into_iter().map(read).collect());
    read.await.unwrap_or_else(|error| Err((first, error.to_string())))
}

fn digest_of(content: &[Vec<u8>]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in content {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(message: String) -> HandshakeRefusal {
        HandshakeRefusal { rule: "test", message, peer_san: None }
    }

    /// A look now, whenever the last one was.
    async fn look(reread: &Reread<String>) -> Result<String, String> {
        reread.state.lock().unwrap().looked = None;
        let unreadable = |path: &Path, cause: String| refusal(format!("{}: {cause}", path.display()));
        let made = reread.current(unreadable, |content| {
            let text = String::from_utf8(content.concat()).unwrap();
            if text.contains("bad") { Err(refusal("it is bad".into())) } else { Ok(text) }
        });
        made.await.map(|made| (*made).clone()).map_err(|refusal| refusal.message)
    }

    #[tokio::test]
    async fn what_changes_is_made_anew_and_what_is_no_good_leaves_the_last_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        let reread = Reread::new(paths.to_vec());
        assert!(look(&reread).await.unwrap_err().contains("No such file"), "there has never been one");
        std::fs::write(&paths[0], "bad").unwrap();
        std::fs::write(&paths[1], "1").unwrap();
        assert_eq!(look(&reread).await.unwrap_err(), "it is bad");
        std::fs::write(&paths[0], "good").unwrap();
        assert_eq!(look(&reread).await.unwrap(), "good1");
        std::fs::write(&paths[1], "2").unwrap();
        assert_eq!(look(&reread).await.unwrap(), "good2");
        std::fs::write(&paths[0], "bad").unwrap();
        assert_eq!(look(&reread).await.unwrap(), "good2", "the last good one");
        std::fs::remove_file(&paths[0]).unwrap();
        assert_eq!(look(&reread).await.unwrap(), "good2", "the last good one");
        std::fs::write(&paths[0], "better").unwrap();
        assert_eq!(look(&reread).await.unwrap(), "better2");
    }
}
