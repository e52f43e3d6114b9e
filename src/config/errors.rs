//! Everything that is wrong with a file, said at once.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

use super::file::{KeyPath, Node};

/// All problems of a configuration file, in the order of the file.
///
/// `Display` writes one line for each; [`ConfigErrors::render`] shows the lines of the file with carets.
#[derive(Debug, Clone)]
pub struct ConfigErrors {
    file: String,
    text: String,
    problems: Vec<ConfigProblem>,
    omitted: usize,
}

/// One problem: what is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigProblem {
    /// Where in the file; none if the file cannot be read, or a flag is wrong.
    pub place: Option<Place>,
    /// The key, `inbound[0].listen`, or the flag, `--workers`; empty if it is about the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    #[serde(skip)]
    span: Option<Range<usize>>,
}

impl ConfigProblem {
    /// Where in the file, in bytes.
    pub(crate) fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }
}

/// A place in the file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl ConfigErrors {
    /// More than these are not shown: a file that is not a configuration at all would fill the screen.
    pub const MOST_SHOWN: usize = 100;

    /// All problems, at least one and at most [`Self::MOST_SHOWN`].
    #[must_use]
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }

    /// How many further problems the file has.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// The problems with the lines of the file that they are about, for a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        theme.characters.underline = '^';
        theme.characters.underbar = '^';
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(110).with_context_lines(1);
        let source = NamedSource::new(&self.file, self.text.clone());
        let mut text = String::new();
        for problem in &self.problems {
            let shown = Shown { problem, file: &self.file, source: &source };
            if handler.render_report(&mut text, &shown).is_err() {
                text.push_str(&format!("{}\n", self.line(problem)));
            }
            text.push('\n');
        }
        text.push_str(&format!("{}\n", self.summary()));
        text
    }

    fn summary(&self) -> String {
        let count = self.problems.len() + self.omitted;
        let omitted = if self.omitted > 0 { format!(", {} not shown", self.omitted) } else { String::new() };
        format!("{}: {count} problem{}{omitted}", self.file, if count == 1 { "" } else { "s" })
    }

    fn line(&self, problem: &ConfigProblem) -> String {
        let mut line = self.file.clone();
        if let Some(Place { line: row, column }) = problem.place {
            line.push_str(&format!(":{row}:{column}"));
        }
        if !problem.key.is_empty() {
            line.push_str(&format!(": {}", problem.key));
        }
        line.push_str(&format!(": {}", problem.message));
        if let Some(help) = &problem.help {
            line.push_str(&format!(" ({help})"));
        }
        line
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}", self.line(problem))?;
        }
        if self.omitted > 0 {
            write!(f, "\n{}", self.summary())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A problem as miette draws it.
#[derive(Debug)]
struct Shown<'a> {
    problem: &'a ConfigProblem,
    file: &'a str,
    source: &'a NamedSource<String>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.problem.place, self.problem.key.as_str()) {
            (Some(_), _) => f.write_str(&self.problem.message),
            (None, "") => write!(f, "{}: {}", self.file, self.problem.message),
            (None, flag) => write!(f, "{flag}: {}", self.problem.message),
        }
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.problem.span.as_ref().map(|_| self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span.clone()?;
        let label = Some(self.problem.key.clone()).filter(|key| !key.is_empty());
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(label, span))))
    }
}

/// A problem on its way: its place still in bytes.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    span: Option<Range<usize>>,
    key: String,
    message: String,
    help: Option<String>,
}

impl Finding {
    pub(super) fn new(span: Range<usize>, path: &KeyPath, message: impl Into<String>) -> Self {
        Self { span: Some(span), key: path.to_string(), message: message.into(), help: None }
    }

    /// About no place in the file: `key` is a flag, or empty.
    pub(super) fn placeless(key: &str, message: impl Into<String>) -> Self {
        Self { span: None, key: key.into(), message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }

    /// The same, said of a flag.
    pub(super) fn of_flag(self, flag: &str) -> Self {
        Self { span: None, key: flag.into(), ..self }
    }

    fn resolve(self, text: &str) -> ConfigProblem {
        let span = self.span.map(|span| within_line(text, span));
        let place = span.as_ref().map(|span| place(text, span.start));
        ConfigProblem { place, key: self.key, message: self.message, help: self.help, span }
    }
}

/// Cuts a span at the end of its first line, and to what the text has.
fn within_line(text: &str, span: Range<usize>) -> Range<usize> {
    let start = span.start.min(text.len());
    let end = span.end.clamp(start, text.len());
    let line = text.get(start..end).and_then(|part| part.find(['\n', '\r'])).map_or(end, |length| start + length);
    start..line
}

fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().trim_start_matches('\u{feff}').chars().count() + 1;
    Place { line: before.matches('\n').count() + 1, column }
}

/// An error of one value that knows what to do about it.
pub(super) trait Advice: fmt::Display {
    /// What to do.
    fn advice(&self) -> Option<String>;
}

/// The problems found so far.
#[derive(Debug)]
pub(super) struct Report<'a> {
    text: &'a str,
    tree: &'a Node,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str, tree: &'a Node, findings: Vec<Finding>) -> Self {
        Self { text, tree, findings }
    }

    /// The value at `path` is wrong.
    pub(super) fn value(&mut self, path: &KeyPath, message: impl Into<String>, help: impl Into<Option<String>>) {
        let span = self.tree.at(path).value_span();
        self.findings.push(Finding::new(span, path, message).help(help));
    }

    /// The key at `path` should not be there, or is misspelt.
    pub(super) fn key(&mut self, path: &KeyPath, message: impl Into<String>, help: impl Into<Option<String>>) {
        let span = self.tree.at(path).start_span();
        self.findings.push(Finding::new(span, path, message).help(help));
    }

    /// Keeps a good value, reports a bad one.
    pub(super) fn check<T, E: Advice>(&mut self, path: &KeyPath, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.value(path, error.to_string(), error.advice())).ok()
    }

    /// Whether something is known to be wrong at `path` or below it.
    pub(super) fn is_wrong(&self, path: &KeyPath) -> bool {
        let path = path.to_string();
        self.findings.iter().any(|finding| finding.key.starts_with(&path))
    }

    /// The line at which `path` stands.
    pub(super) fn line(&self, path: &KeyPath) -> usize {
        place(self.text, self.tree.at(path).value_span().start).line
    }
}

/// Ends a reading that failed.
pub(super) fn errors(file: &str, text: &str, mut findings: Vec<Finding>) -> ConfigErrors {
    // Flags come last: they stand in no line.
    findings.sort_by_key(|finding| finding.span.as_ref().map_or(usize::MAX, |span| span.start));
    let omitted = findings.len().saturating_sub(ConfigErrors::MOST_SHOWN);
    findings.truncate(ConfigErrors::MOST_SHOWN);
    let problems = findings.into_iter().map(|finding| finding.resolve(text)).collect();
    ConfigErrors { file: file.into(), text: text.into(), problems, omitted }
}
