//! The table's files: a text, then what it asks.
//!
//! ```sql
//! SELECT name FROM people
//! --@ first SET search_path = traps
//! --> sql:Select traps.people[name]
//! ```
//!
//! `-->` says every operation, `--!` the SQLSTATE of a refusal (`refused`: whichever). `--@ first` runs
//! before it in the same session, `--@ options` are startup options, `--@ simple`
//! and `--@ extended` say the only protocol it can go by, `--@ alone` that it cannot stand in a transaction, `--@ may fail` which error
//! of the server itself is fine.
//!
//! An operation is `sql:VERB` and a resource: `public.people[id,ssn]` a table with its columns (without brackets: whatever they are),
//! `public.leak()` a function, `public.*` a schema, `database` the database; then attributes of the context. `pg_temp` is
//! the session's temporary schema, whatever its number.

use std::collections::{BTreeMap, BTreeSet};

/// Every file of the table.
const FILES: [(&str, &str); 6] = [
    ("01_reads", include_str!("01_reads.sql")),
    ("02_writes", include_str!("02_writes.sql")),
    ("03_functions", include_str!("03_functions.sql")),
    ("04_names", include_str!("04_names.sql")),
    ("05_session", include_str!("05_session.sql")),
    ("06_ddl", include_str!("06_ddl.sql")),
];

/// One text and what must come of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    /// File and line.
    pub(crate) at: String,
    pub(crate) text: String,
    pub(crate) first: Vec<String>,
    pub(crate) options: Option<String>,
    pub(crate) only: Option<Protocol>,
    pub(crate) alone: bool,
    pub(crate) may_fail: Vec<String>,
    pub(crate) answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Simple,
    Extended,
}

/// What must come of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    #[default]
    Missing,
    Asks(Vec<Asked>),
    /// With this SQLSTATE; empty: with any.
    Refused(String),
}

/// An operation as the table writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub(crate) action: String,
    pub(crate) resource: String,
    /// None in the table: not looked at.
    pub(crate) columns: Option<BTreeSet<String>>,
    pub(crate) context: BTreeMap<String, String>,
}

impl Case {
    /// The protocols that it is tried by.
    pub(crate) fn protocols(&self) -> &'static [Protocol] {
        match self.only {
            Some(Protocol::Simple) => &[Protocol::Simple],
            Some(Protocol::Extended) => &[Protocol::Extended],
            None => &[Protocol::Simple, Protocol::Extended],
        }
    }

    /// Whether `asked` is the right answer.
    pub(crate) fn is_answered_by(&self, asked: &BTreeSet<Asked>) -> bool {
        let Answer::Asks(expected) = &self.answer else { return false };
        expected.iter().all(|one| asked.iter().any(|other| one.is_met_by(other)))
            && asked.iter().all(|other| expected.iter().any(|one| one.is_met_by(other)))
    }

    /// Whether refusing it with `sqlstate` is the right answer.
    pub(crate) fn is_refused_with(&self, sqlstate: &str) -> bool {
        matches!(&self.answer, Answer::Refused(expected) if expected.is_empty() || expected == sqlstate)
    }
}

impl Asked {
    fn is_met_by(&self, asked: &Self) -> bool {
        let base = |of: &Self| of.context.get("base").cloned().unwrap_or_default();
        self.action == asked.action
            && self.resource == asked.resource
            && self.columns.as_ref().is_none_or(|columns| asked.columns.as_ref() == Some(columns))
            && self.context.iter().all(|(name, value)| asked.context.get(name) == Some(value))
            && (self.columns.is_none() || base(self) == base(asked))
    }

    fn parse(text: &str) -> Self {
        let (action, rest) = text.split_once(' ').unwrap_or_else(|| panic!("`{text}` names no resource"));
        // Columns may hold blanks, attributes come after them.
        let (resource, columns, attributes) = match rest.split_once('[') {
            Some((resource, rest)) => {
                let (columns, attributes) = rest.rsplit_once(']').unwrap_or_else(|| panic!("`{text}` lacks a `]`"));
                let columns = columns.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                (resource, Some(columns), attributes)
            }
            None => {
                let (resource, attributes) = rest.split_once(' ').unwrap_or((rest, ""));
                (resource, None, attributes)
            }
        };
        let attributes = attributes.split_whitespace().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or_else(|| panic!("`{pair}` is no NAME=VALUE"));
            (name.to_owned(), value.to_owned())
        });
        Self { action: action.into(), resource: resource.into(), columns, context: attributes.collect() }
    }
}

impl Answer {
    fn parse(text: &str) -> Self {
        match text {
            "refused" => Self::Refused(String::new()),
            _ if text.starts_with("sql:") => Self::Asks(text.split(" + ").map(Asked::parse).collect()),
            _ => Self::Refused(text.to_owned()),
        }
    }
}

/// All cases, in order.
pub(crate) fn all() -> Vec<Case> {
    FILES.iter().flat_map(|(name, text)| parse(name, text)).collect()
}

fn parse(file: &str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        // Between cases: headings, comments.
        if line.is_empty() || line.starts_with("-- ") {
            continue;
        }
        let mut case = Case { at: format!("{file}.sql:{}", number + 1), text: line.to_owned(), ..Case::default() };
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
            match line.split_once(' ') {
                Some(("-->" | "--!", answer)) => {
                    assert_eq!(case.answer, Answer::Missing, "{}: two answers", case.at);
                    case.answer = Answer::parse(answer);
                }
                Some(("--@", note)) => case.note(note),
                _ => {
                    case.text.push('\n');
                    case.text.push_str(line);
                }
            }
        }
        assert_ne!(case.answer, Answer::Missing, "{}: no answer", case.at);
        cases.push(case);
    }
    cases
}

impl Case {
    fn note(&mut self, note: &str) {
        let (word, rest) = note.split_once(' ').unwrap_or((note, ""));
        match word {
            "first" => self.first.push(rest.to_owned()),
            "options" => self.options = Some(rest.to_owned()),
            "simple" => self.only = Some(Protocol::Simple),
            "extended" => self.only = Some(Protocol::Extended),
            "alone" => self.alone = true,
            "may" => self.may_fail.push(rest.trim_start_matches("fail ").to_owned()),
            _ => panic!("{}: `{note}`", self.at),
        }
    }
}

#[test]
fn the_table_is_as_long_as_it_has_to_be() {
    let cases = all();
    assert!(cases.len() >= 600, "{}", cases.len());
    let texts: BTreeSet<_> = cases.iter().map(|case| (&case.text, &case.first, &case.options)).collect();
    assert_eq!(texts.len(), cases.len(), "a case stands there twice");
}

#[test]
fn a_case_is_read_with_everything_it_says() {
    let text = "-- # Heading\n\nSELECT \"a b\" -- odd\nFROM t\n--@ first SET a = b\n--@ simple\n--@ may fail 22023\n\
                --> sql:Select public.t[a b,c] base=x.y,x.y.z + sql:Execute public.f()\n";
    let [case] = parse("f", text).try_into().expect("one case");
    assert_eq!((case.at.as_str(), case.text.as_str()), ("f.sql:3", "SELECT \"a b\" -- odd\nFROM t"));
    assert_eq!(
        (case.first, case.only, case.may_fail),
        (vec!["SET a = b".into()], Some(Protocol::Simple), vec!["22023".into()])
    );
    let select = Asked {
        action: "sql:Select".into(),
        resource: "public.t".into(),
        columns: Some(["a b", "c"].map(str::to_owned).into()),
        context: [("base".to_owned(), "x.y,x.y.z".to_owned())].into(),
    };
    let execute = Asked::parse("sql:Execute public.f()");
    assert_eq!(case.answer, Answer::Asks(vec![select, execute]));
}
