//! The log: `tracing` events to standard error, as JSON lines or text.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

use thiserror::Error;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Starts the log for the whole process. A later call changes the filter and nothing else.
///
/// # Errors
/// The filter cannot be read, or another crate's subscriber is installed.
pub fn init(format: Format, filter: &str) -> Result<(), LogError> {
    if FILTER.get().is_some() {
        return set_filter(filter);
    }
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(OneLine(io::stderr));
    let started = match format {
        Format::Json => registry.with(lines.json().flatten_event(true).with_current_span(false)).try_init(),
        Format::Text => registry.with(lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr()))).try_init(),
    };
    started.map_err(|_| LogError::Foreign)?;
    FILTER.get_or_init(|| handle);
    Ok(())
}

/// The filter in force, as `tracing` writes it; `None` before [`init`].
#[must_use]
pub fn filter() -> Option<String> {
    FILTER.get()?.with_current(ToString::to_string).ok()
}

/// Puts another filter in force: `info`, `portcullis=debug,info`.
///
/// # Errors
/// The filter cannot be read (the old one stays), or there is no log yet.
pub fn set_filter(filter: &str) -> Result<(), LogError> {
    let parsed = parse(filter)?;
    FILTER.get().ok_or(LogError::NotStarted)?.reload(parsed).map_err(|_| LogError::NotStarted)
}

/// Why the log is not as asked.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("log filter `{}`: {reason}", filter.escape_debug())]
    Filter {
        /// What was asked.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// [`init`] was not called.
    #[error("the log is not started")]
    NotStarted,
    /// Somebody else's subscriber is installed.
    #[error("another log is installed in this process")]
    Foreign,
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })
}

/// Keeps an event one line whatever a peer put into it. JSON escapes by itself, text does not.
#[derive(Debug, Clone, Copy)]
struct OneLine<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = LineWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(self.0.make_writer())
    }
}

struct LineWriter<W>(W);

impl<W> fmt::Debug for LineWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineWriter")
    }
}

impl<W: Write> Write for LineWriter<W> {
    /// The subscriber hands over an event whole, with its newline at the end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (line, end) = match event.strip_suffix(b"\n") {
            Some(line) => (line, "\n"),
            None => (event, ""),
        };
        if memchr::memchr2(b'\n', b'\r', line).is_none() {
            self.0.write_all(event)?;
        } else {
            let text = String::from_utf8_lossy(line).replace('\n', "\\n").replace('\r', "\\r");
            self.0.write_all(format!("{text}{end}").as_bytes())?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The log is one for the process: tests that change it take turns.
#[cfg(test)]
pub(crate) static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_event_with_line_breaks_stays_one_line() {
        let mut out = Vec::new();
        LineWriter(&mut out).write_all(b"INFO refused path=/a\r\nINFO forged\n").unwrap();
        assert_eq!(out, b"INFO refused path=/a\\r\\nINFO forged\n");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = parse("portcullis=lou d=x=y").unwrap_err();
        assert!(error.to_string().starts_with("log filter `portcullis=lou d=x=y`: "), "{error}");
        assert!(parse("portcullis=debug,info").is_ok());
    }

    #[test]
    fn the_filter_changes_while_the_log_runs() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        init(Format::Json, "warn").unwrap();
        init(Format::Text, "error").unwrap();
        assert_eq!(filter().as_deref(), Some("error"));
        set_filter("portcullis=debug").unwrap();
        assert_eq!(filter().as_deref(), Some("portcullis=debug"));
        assert!(matches!(set_filter("a=b=c"), Err(LogError::Filter { .. })));
        assert_eq!(filter().as_deref(), Some("portcullis=debug"));
    }
}
