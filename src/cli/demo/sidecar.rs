//! A sidecar process of the demo: this same program, started as in production.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// How long a sidecar may take to listen. It takes milliseconds; a busy machine gets more.
const START_LIMIT: Duration = Duration::from_secs(8);

/// A running sidecar.
#[derive(Debug)]
pub(super) struct Sidecar {
    child: Child,
    /// Where its one listener listens.
    pub(super) address: SocketAddr,
    /// Its audit file.
    pub(super) audit: PathBuf,
}

impl Sidecar {
    /// Starts `portcullis run` with the given listener section and waits until it listens.
    pub(super) fn start(folder: &Path, name: &str, identity: &str, listener: &str) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("sidecar `{name}`: {error}");
        let audit = folder.join(format!("{name}-audit.jsonl"));
        let config = folder.join(format!("{name}.yaml"));
        let text =
            format!("{identity}{listener}audit:\n  sink: file\n  path: {}\nlog:\n  format: json\n", audit.display());
        fs::write(&config, text).map_err(|error| said(&error))?;
        let program = std::env::current_exe().map_err(|error| said(&error))?;
        let mut child = Command::new(program)
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| said(&error))?;
        let log = folder.join(format!("{name}.log"));
        match listening(&mut child, &log) {
            Ok(address) => Ok(Self { child, address, audit }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let text = fs::read_to_string(&log).unwrap_or_default();
                Err(format!("sidecar `{name}` does not listen: {error}\n{text}"))
            }
        }
    }

    /// Ends the process.
    pub(super) fn stop(&mut self) {
        // Nothing is in flight any more, and every answered request has its record: there is nothing to drain.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Copies the log to a file, line by line, and picks the address out of it on the way.
fn listening(child: &mut Child, log: &Path) -> Result<SocketAddr, String> {
    let stderr = child.stderr.take().ok_or("it has no log")?;
    let mut file = fs::File::create(log).map_err(|error| error.to_string())?;
    let (found, wait) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes());
            if let Some(address) = address_in(&line) {
                let _ = found.send(address);
            }
        }
    });
    wait.recv_timeout(START_LIMIT).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => format!("not within {} s", START_LIMIT.as_secs()),
        mpsc::RecvTimeoutError::Disconnected => "it ended".to_owned(),
    })
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    if fields.get("message")?.as_str()? != "listening" || fields.get("listener").is_none() {
        return None;
    }
    fields.get("address")?.as_str()?.parse().ok()
}
