//! Child processes: their output as events, their end with a deadline, killed on drop.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long any wait of a test may take. Far above what is expected, as machines of CI are slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for `future`, and says what was waited for when it takes too long.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {DEADLINE:?} in vain for {what}"),
    }
}

/// Asks `probe` until it answers. For what gives no event of its own, such as a file that grows.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    eventually_so(what, async || probe().ok_or("it is not there")).await
}

/// The same for what takes a while to be asked, such as the state of another process. What it says meanwhile is told when it takes too long.
pub(crate) async fn eventually_so<T, W: Debug>(what: &str, mut probe: impl AsyncFnMut() -> Result<T, W>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match probe().await {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain for {what}: {instead:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a process that ended has said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Its exit code; -1 when a signal ended it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {self:#?}"),
        }
    }
}

/// A running child process.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Process {
    /// Starts it. Standard input stays open until the process is dropped or [`close_input`](Self::close_input) is called.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {name}: {command:?}: {error}"));
        let stdout = Lines::read(child.stdout.take().expect("is piped"));
        let stderr = Lines::read(child.stderr.take().expect("is piped"));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    /// Runs a command to its end.
    pub(crate) async fn run(name: &str, command: &mut Command, input: &str) -> Output {
        let mut process = Self::spawn(name, command);
        let mut stdin = process.child.stdin.take().expect("is piped");
        let input = input.to_owned();
        // A child that does not read its input to the end is a fault of the child, seen in its output.
        thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let status = process.exited().await;
        Output { status, stdout: process.stdout.text().await, stderr: process.stderr.text().await }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends a signal by name: `TERM`, `HUP`, `KILL`.
    pub(crate) fn signal(&self, signal: &str) {
        // std can only kill; the shell's own `kill` is everywhere.
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.pid())]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal} to {}", self.name);
    }

    /// Waits for its end.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, || self.child.try_wait().expect("is our child")).await
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("is our child").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {}: standard error ---\n{}", self.name, self.stderr.so_far().join("\n"));
        }
    }
}

/// The lines of a pipe as they come.
#[derive(Debug, Clone)]
pub(crate) struct Lines(watch::Receiver<Vec<String>>);

impl Lines {
    fn read(pipe: impl Read + Send + 'static) -> Self {
        let (lines, receiver) = watch::channel(Vec::new());
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                lines.send_modify(|all| all.push(text));
                line.clear();
            }
        });
        Self(receiver)
    }

    /// The lines that came already.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// The first line for which `find` answers, past or future.
    pub(crate) async fn find<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let mut receiver = self.0.clone();
        let mut looked_at = 0;
        let found = within(what, async {
            loop {
                let found = {
                    let lines = receiver.borrow_and_update();
                    let found = lines.iter().skip(looked_at).find_map(|line| find(line));
                    looked_at = lines.len();
                    found
                };
                if found.is_some() || receiver.changed().await.is_err() {
                    return found;
                }
            }
        });
        match found.await {
            Some(found) => found,
            None => panic!("the output ended without {what}:\n{}", self.so_far().join("\n")),
        }
    }

    /// All of it, once the pipe is closed.
    pub(crate) async fn text(&self) -> String {
        let mut receiver = self.0.clone();
        within("the end of the output", async { while receiver.changed().await.is_ok() {} }).await;
        self.so_far().join("\n")
    }
}
