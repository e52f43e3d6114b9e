//! What is wrong with a policy directory: where, what, and what to write instead.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::advice;

/// Most problems that are rendered with their source. More would hide the first.
const MAX_RENDERED: usize = 50;
/// Most characters of a source line that are shown. A generated policy may be one line of a megabyte, and the report goes to the log.
const MAX_SHOWN: usize = 240;

/// Everything that is wrong with a policy directory; never empty. `Display` is a line for each: `file:line:column: message (what to do)`.
#[derive(Debug, Clone)]
pub struct PolicyErrors {
    problems: Vec<PolicyProblem>,
}

impl PolicyErrors {
    pub(in crate::policy) fn one(problem: PolicyProblem) -> Self {
        Self { problems: vec![problem] }
    }

    /// All of them: errors first, then warnings, each in the order of the files.
    #[must_use]
    pub fn problems(&self) -> &[PolicyProblem] {
        &self.problems
    }

    /// For people: each with its source, a caret and what to do.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render_problems(&self.problems, colour)
    }
}

impl std::error::Error for PolicyErrors {}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().filter(|p| p.severity == Severity::Error).enumerate() {
            if n > 0 {
                f.write_char('\n')?;
            }
            f.write_str(&problem.advised_line())?;
        }
        Ok(())
    }
}

/// Problems as people read them, each with its source, a caret and what to do.
#[must_use]
pub fn render_problems(problems: &[PolicyProblem], colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    // What to write stands on one line, to be copied.
    let handler = GraphicalReportHandler::new_themed(theme).with_wrap_lines(false);
    let mut text = String::new();
    for problem in problems.iter().take(MAX_RENDERED) {
        // Writing into a String does not fail; if the source cannot be shown the line still is.
        let mut report = String::new();
        match handler.render_report(&mut report, problem) {
            Ok(()) => push_shortened(&mut text, &report),
            Err(_) => {
                text.push_str(&problem.line());
                text.push('\n');
            }
        }
    }
    if problems.len() > MAX_RENDERED {
        text.push_str(&format!("… and {} more\n", problems.len() - MAX_RENDERED));
    }
    text
}

/// A report without the far ends of its source lines (where it has no colours: a terminal folds them by itself). What to do is never cut: it is there to be copied.
fn push_shortened(text: &mut String, report: &str) {
    for line in report.lines() {
        let gutter = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let end = line.char_indices().nth(MAX_SHOWN).map(|(end, _)| end);
        match end.and_then(|end| line.get(..end)) {
            Some(start) if gutter.starts_with(['│', '·']) => {
                text.push_str(start.trim_end());
                text.push_str(" …");
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
}

/// Whether a problem keeps the directory from being loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct PolicyProblem {
    severity: Severity,
    file: Arc<SourceFile>,
    span: Option<Range<usize>>,
    message: String,
    help: Option<String>,
}

impl PolicyProblem {
    pub(in crate::policy) fn error(
        file: &Arc<SourceFile>,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Error, file: Arc::clone(file), span, message: message.into(), help: None }
    }

    pub(in crate::policy) fn warning(
        file: &Arc<SourceFile>,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(file, span, message) }
    }

    /// The same, of what may be loaded all the same.
    pub(in crate::policy) fn into_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// The same, in another file: its span there, and its message as it reads there.
    pub(in crate::policy) fn moved(
        self,
        file: &Arc<SourceFile>,
        span: impl FnOnce(Range<usize>) -> Option<Range<usize>>,
        message: impl FnOnce(String) -> String,
    ) -> Self {
        let Self { severity, span: old, message: said, help, .. } = self;
        Self { severity, file: Arc::clone(file), span: old.and_then(span), message: message(said), help }
    }

    /// A problem that Cedar found, with its own place and help.
    pub(in crate::policy) fn from_cedar(file: &Arc<SourceFile>, cause: &dyn Diagnostic) -> Self {
        let span = cause
            .labels()
            .and_then(|mut labels| labels.next())
            .map(|label| label.offset()..label.offset() + label.len());
        let mut problem = Self::error(file, span, advice::in_words(&cause.to_string()));
        problem.help = cause.help().map(|help| help.to_string());
        problem
    }

    pub(in crate::policy) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(in crate::policy) fn some_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Whether it keeps the directory from being loaded.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &str {
        self.file.name()
    }

    /// Adds what to write in place of what does not parse.
    pub(super) fn of_syntax(self) -> Self {
        let help = advice::of_syntax(self.file.text(), self.span.clone(), &self.message);
        self.some_help(help)
    }

    /// The byte of the file that it begins at.
    pub(super) fn start(&self) -> Option<usize> {
        self.span.as_ref().map(|span| span.start)
    }

    /// Line and column, from 1; the column counts characters.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        self.span.as_ref().map(|span| self.file.position(span.start))
    }

    /// `file:line:column: message`
    #[must_use]
    pub fn line(&self) -> String {
        match self.position() {
            Some((line, column)) => format!("{}:{line}:{column}: {}", self.file(), self.message),
            None => format!("{}: {}", self.file(), self.message),
        }
    }
}

impl PolicyProblem {
    /// `file:line:column: message (what to do)`
    #[must_use]
    pub fn advised_line(&self) -> String {
        match &self.help {
            Some(help) => format!("{} ({help})", self.line()),
            None => self.line(),
        }
    }
}

impl std::error::Error for PolicyProblem {}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.span {
            Some(_) => f.write_str(&self.message),
            // Without a place in its source nothing else would say which file is meant.
            None => write!(f, "{}: {}", self.file(), self.message),
        }
    }
}

impl Diagnostic for PolicyProblem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.span.as_ref().map(|_| &self.file.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span.clone()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, span))))
    }
}

/// A file that was read whole.
#[derive(Debug)]
pub(in crate::policy) struct SourceFile {
    source: NamedSource<Arc<str>>,
    text: Arc<str>,
    line_starts: Vec<usize>,
}

impl SourceFile {
    pub(in crate::policy) fn new(name: impl AsRef<str>, text: impl Into<Arc<str>>) -> Arc<Self> {
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { source: NamedSource::new(name, Arc::clone(&text)), text, line_starts })
    }

    pub(in crate::policy) fn name(&self) -> &str {
        self.source.name()
    }

    pub(in crate::policy) fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte, from 1; the column counts characters.
    pub(in crate::policy) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|line| self.line_starts.get(line)).copied().unwrap_or_default();
        (line, self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1)
    }
}

/// Problems while they are gathered.
#[derive(Debug, Default)]
pub(in crate::policy) struct Problems(Vec<PolicyProblem>);

impl Problems {
    pub(in crate::policy) fn push(&mut self, problem: PolicyProblem) {
        self.0.push(problem);
    }

    pub(in crate::policy) fn into_all(self) -> Vec<PolicyProblem> {
        self.0
    }

    /// The warnings, if there are no errors.
    pub(in crate::policy) fn verdict(mut self) -> Result<Vec<PolicyProblem>, PolicyErrors> {
        self.0.sort_by(|a, b| {
            let place = |p: &PolicyProblem| (p.severity, p.file().to_owned(), p.span.as_ref().map(|s| s.start));
            place(a).cmp(&place(b))
        });
        if self.0.iter().any(|p| p.severity == Severity::Error) {
            return Err(PolicyErrors { problems: self.0 });
        }
        Ok(self.0)
    }
}
