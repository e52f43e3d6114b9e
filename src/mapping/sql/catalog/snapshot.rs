//! A catalogue as a text that is kept in a file: the server's answers, row by row, for people who ask about SQL where no database is.

use std::fmt::Write as _;

use thiserror::Error;

use super::{Catalog, CatalogError, CatalogRows, Reading, RowError};

/// The first line; another number is another form.
const FIRST: &str = "# portcullis catalog 1";

/// What comes with PostgreSQL 15, written by `built_in.py`.
const BUILT_IN: &str = include_str!("built_in.tsv");

/// A row: its values in text format.
type Row = Vec<Option<String>>;

/// What a server has answered to [`Catalog::QUERIES`].
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    rows: Vec<(Reading, Row)>,
}

/// Why a text is no catalogue.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// It does not begin as one.
    #[error("not a catalogue: its first line is not `{FIRST}`")]
    NoSnapshot,
    /// A line is not of the form.
    #[error("line {line}: {why}")]
    Line {
        /// Which one, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A row is not what its query answers.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The rows do not make a catalogue.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Snapshot {
    /// What comes with PostgreSQL 15: all of its functions, operators, types and relations, and no database.
    ///
    /// # Errors
    /// Never: a test reads it.
    pub fn built_in() -> Result<Self, SnapshotError> {
        Self::parse(BUILT_IN)
    }

    /// Adds a row of the answer to a query.
    pub fn push(&mut self, reading: Reading, values: &[Option<&str>]) {
        self.rows.push((reading, values.iter().map(|value| value.map(str::to_owned)).collect()));
    }

    /// The rows about something.
    pub fn rows(&self, reading: Reading) -> impl Iterator<Item = &[Option<String>]> {
        self.rows.iter().filter(move |(of, _)| *of == reading).map(|(_, row)| row.as_slice())
    }

    /// Reads a text that [`Self::text`] has written.
    ///
    /// # Errors
    /// It is another text.
    pub fn parse(text: &str) -> Result<Self, SnapshotError> {
        let mut lines = (1..).zip(text.lines());
        if lines.next().is_none_or(|(_, first)| first.trim_end() != FIRST) {
            return Err(SnapshotError::NoSnapshot);
        }
        let (mut snapshot, mut reading) = (Self::default(), None);
        for (line, text) in lines {
            let wrong = |why: String| SnapshotError::Line { line, why };
            if let Some(name) = text.strip_prefix("# ") {
                let known = Catalog::QUERIES.iter().find(|(known, _)| format!("{known:?}") == name);
                reading = Some(known.ok_or_else(|| wrong(format!("there is no query `{name}`")))?.0);
                continue;
            }
            let reading = reading.ok_or_else(|| wrong("a row before any query".to_owned()))?;
            let row: Option<Row> = text.split('\t').map(unescaped).collect();
            snapshot.rows.push((reading, row.ok_or_else(|| wrong("a value ends in a lone `\\`".to_owned()))?));
        }
        Ok(snapshot)
    }

    /// As a text, in an order that does not hang on the server's: unchanged databases give unchanged files.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{FIRST}\n");
        for (reading, _) in Catalog::QUERIES {
            let mut rows: Vec<&[Option<String>]> = self.rows(reading).collect();
            let number =
                |row: &[Option<String>]| row.first().and_then(Option::as_ref).and_then(|first| first.parse().ok());
            rows.sort_by_key(|row| (number(row).unwrap_or(0_u64), *row));
            let _ = writeln!(text, "# {reading:?}");
            for row in rows {
                let values: Vec<String> = row.iter().map(|value| escaped(value.as_deref())).collect();
                let _ = writeln!(text, "{}", values.join("\t"));
            }
        }
        text
    }

    /// The catalogue that these rows are.
    ///
    /// # Errors
    /// They are none.
    pub fn catalog(&self) -> Result<Catalog, SnapshotError> {
        let mut rows = CatalogRows::default();
        for (reading, row) in &self.rows {
            let values: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            rows.push(*reading, &values)?;
        }
        Ok(Catalog::build(&rows)?)
    }
}

/// # Source
/// PostgreSQL, COPY, "Text Format": what separates values and lines is written with a backslash.
fn escaped(value: Option<&str>) -> String {
    match value {
        None => "\\N".to_owned(),
        Some(value) => value.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"),
    }
}

/// None if the text is not of that form.
fn unescaped(text: &str) -> Option<Option<String>> {
    if text == "\\N" {
        return Some(None);
    }
    let mut value = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        value.push(match character {
            '\\' => match rest.next()? {
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                other => other,
            },
            other => other,
        });
    }
    Some(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_with_the_server_is_complete() {
        let mut snapshot = Snapshot::built_in().unwrap();
        assert!(snapshot.catalog().is_err_and(|error| matches!(error, SnapshotError::Catalog(_))));
        snapshot.push(Reading::Database, &[Some("shop"), Some("10"), Some("150000")]);
        let catalog = snapshot.catalog().unwrap();
        assert_eq!((&*catalog.database, catalog.major), ("shop", 15));
        let built_in = &catalog.schemas["pg_catalog"];
        assert!(
            built_in.functions.contains_key("lower")
                && built_in.operators.contains_key("=")
                && built_in.types.contains_key("int8")
        );
        assert!(built_in.relations.contains_key("pg_class") && catalog.schemas.contains_key("public"));
        assert_eq!(
            snapshot
                .rows(Reading::Relations)
                .filter(|row| row[0].as_ref().unwrap().parse::<u32>().unwrap() >= 16_384)
                .count(),
            0
        );
    }

    #[test]
    fn a_snapshot_is_written_and_read_back_with_every_character() {
        let mut snapshot = Snapshot::default();
        snapshot.push(Reading::Schemas, &[Some("30000"), Some("a\tb\nc\\N\r"), Some("10"), None]);
        snapshot.push(Reading::Schemas, &[Some("9"), Some("\\N"), Some(""), Some("t")]);
        let text = snapshot.text();
        let read = Snapshot::parse(&text).unwrap();
        assert_eq!(read.text(), text);
        let rows: Vec<_> = read.rows(Reading::Schemas).map(<[_]>::to_vec).collect();
        let row = |values: [Option<&str>; 4]| values.map(|value| value.map(str::to_owned)).to_vec();
        let expected = [
            row([Some("9"), Some("\\N"), Some(""), Some("t")]),
            row([Some("30000"), Some("a\tb\nc\\N\r"), Some("10"), None]),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn what_is_no_snapshot_says_where() {
        for (text, said) in [
            ("", "its first line is not"),
            ("cases:\n", "its first line is not"),
            ("# portcullis catalog 1\n1\t2\n", "line 2: a row before any query"),
            ("# portcullis catalog 1\n# Tables\n", "line 2: there is no query `Tables`"),
            ("# portcullis catalog 1\n# Roles\na\\\n", "line 3: a value ends in a lone `\\`"),
        ] {
            let error = Snapshot::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let short = Snapshot::parse("# portcullis catalog 1\n# Roles\n1\n").unwrap();
        assert!(short.catalog().unwrap_err().to_string().contains("Roles"));
    }
}
