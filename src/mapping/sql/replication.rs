//! Replication commands: what a session with `replication=database` may send beside SQL.
//!
//! A small grammar of our own, stricter than the server's. What begins with one of its words and is not understood is refused; every
//! other text is SQL. No SQL begins with such a word, so a server that does not know one cannot take it for something else either. SHOW
//! is left to SQL: it means the same.
//!
//! # Source
//! PostgreSQL, "Streaming Replication Protocol", and `repl_scanner.l`, `repl_gram.y`: words are told by their first token, which has to
//! be written in capitals; there are no comments.

use std::sync::Arc;

use super::asked::{Asked, refused};
use super::catalog::Catalog;
use super::map::map;
use super::names::{Names, cut, parse_search_path};
use super::text;
use super::{
    Copying, Cursor, Effects, Mapped, MappedStatement, Naming, PreparedTexts, SessionFacts, SqlRefusal, Transaction,
};
use crate::mapping::Value;

/// Maps a text of a session that may replicate.
///
/// # Errors
/// What cannot be parsed, resolved or judged.
pub fn map_replication(
    text: &str,
    endpoint: &str,
    catalog: &Catalog,
    facts: &SessionFacts,
    prepared: &dyn PreparedTexts,
) -> Result<Mapped, SqlRefusal> {
    let Some(command) = parse(text)? else { return map(text, endpoint, catalog, facts, prepared) };
    // The server converts a text before it reads it.
    if !(text.is_ascii() || facts.utf8_client && facts.utf8_server) {
        return Err(refused("encoding", "replication command is not ASCII and not all encodings are UTF8"));
    }
    let names = Names::new(endpoint, catalog, facts);
    let mut asked = Asked::default();
    let mut context = Vec::new();
    let strings = |values: &[String]| Value::Strings(values.iter().map(|value| value.as_str().into()).collect());
    if let Some(slot) = &command.slot {
        context.push(("slot", slot.as_str().into()));
    }
    // None rather than an empty set: what names no publication may stream everything.
    if !command.publications.is_empty() {
        context.push(("publication", strings(&command.publications)));
    }
    if let Some(plugin) = &command.plugin {
        context.push(("objectType", "output_plugin".into()));
        context.push(("objectName", plugin.as_str().into()));
    }
    asked.on_database("sql:Replicate", context);
    let (operations, effects, _) = asked.finish(&names, command.kind);
    debug_assert!(!effects.any(), "a replication command changes no names");
    let statement = MappedStatement {
        kind: command.kind,
        operations: Arc::new(operations),
        effects: Effects::default(),
        transaction: Transaction::Stays,
        naming: Naming::None,
        cursor: Cursor::None,
        copying: command.copying,
        only_reads: false,
        capped: None,
    };
    let statements = vec![statement];
    Ok(Mapped {
        weight: Mapped::weigh(&statements, &command.normalized),
        statements,
        literals_do_not_matter: false,
        rewrites: Vec::new(),
        normalized: command.normalized.into(),
        // The grammar of SQL has no fingerprint for it: that of what it is.
        fingerprint: text::fingerprint(command.kind),
    })
}

/// A replication command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Command {
    kind: &'static str,
    slot: Option<String>,
    publications: Vec<String>,
    plugin: Option<String>,
    copying: Option<Copying>,
    normalized: String,
}

/// The words that a replication command begins with, and the kind that each is.
const COMMANDS: &[(&str, &str)] = &[
    ("IDENTIFY_SYSTEM", "identify_system"),
    ("CREATE_REPLICATION_SLOT", "create_replication_slot"),
    ("ALTER_REPLICATION_SLOT", "alter_replication_slot"),
    ("DROP_REPLICATION_SLOT", "drop_replication_slot"),
    ("READ_REPLICATION_SLOT", "read_replication_slot"),
    ("START_REPLICATION", "start_replication"),
    ("TIMELINE_HISTORY", "timeline_history"),
    ("BASE_BACKUP", "base_backup"),
    // Not among what is understood: a manifest that is uploaded belongs to a session of the whole cluster.
    ("UPLOAD_MANIFEST", "upload_manifest"),
];

/// The scanner's `space`. The vertical tab is one from PostgreSQL 16 on; before, what begins with it is neither command nor SQL.
const SPACE: &[char] = &[' ', '\t', '\n', '\r', '\x0c', '\x0b'];
/// Longest command: slots and publications have names of 63 bytes.
const LONGEST: usize = 64 * 1024;

fn parse(text: &str) -> Result<Option<Command>, SqlRefusal> {
    let trimmed = text.trim_start_matches(SPACE);
    let end = trimmed.find(|c: char| !is_identifier(c)).unwrap_or(trimmed.len());
    let first = trimmed.get(..end).unwrap_or_default();
    let Some((_, kind)) = COMMANDS.iter().find(|(word, _)| *word == first) else { return Ok(None) };
    if trimmed.len() > LONGEST {
        return Err(refused("replication-command", format!("replication command is longer than {LONGEST} bytes")));
    }
    let tokens = tokens(trimmed)?;
    let mut rest = Tokens { tokens: &tokens, at: 1 };
    let mut command = Command { kind, ..Command::default() };
    rest.command(&mut command).ok_or_else(|| rest.unexpected())?;
    rest.take(&Token::Mark(';'));
    if rest.at != tokens.len() {
        return Err(rest.unexpected());
    }
    command.normalized = normalized(&tokens);
    Ok(Some(command))
}

const fn is_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Unquoted, as written.
    Word(String),
    /// `"…"`.
    Quoted(String),
    /// `'…'`.
    Text(String),
    Number(String),
    /// `16/B374D848`.
    Position(String),
    Mark(char),
}

fn syntax_error(near: &str) -> SqlRefusal {
    SqlRefusal {
        sqlstate: "42601",
        rule: "replication-command",
        message: format!("syntax error at or near \"{near}\" in a replication command"),
        position: None,
        stale: false,
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, SqlRefusal> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(SPACE);
    while let Some(first) = rest.chars().next() {
        let (token, after) =
            token(first, rest).ok_or_else(|| syntax_error(&rest.chars().take(20).collect::<String>()))?;
        tokens.push(token);
        rest = after.trim_start_matches(SPACE);
    }
    Ok(tokens)
}

fn token(first: char, text: &str) -> Option<(Token, &str)> {
    match first {
        '\'' | '"' => {
            let (content, rest) = quoted(first, text)?;
            // Names are told apart by as many bytes as the server keeps, and folded by nobody.
            let is_name = !content.is_empty() && cut(&content) == content;
            match first {
                '"' => is_name.then_some((Token::Quoted(content), rest)),
                _ => Some((Token::Text(content), rest)),
            }
        }
        '(' | ')' | ',' | ';' | '.' => Some((Token::Mark(first), text.get(1..)?)),
        _ => {
            // The longest match counts: `AB/1` is a position, `ABX` a word.
            let run = text.find(|c: char| !is_identifier(c) && c != '/').unwrap_or(text.len());
            let (run, rest) = text.split_at_checked(run)?;
            let token = if let Some((high, low)) = run.split_once('/') {
                let hex = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
                (hex(high) && hex(low)).then(|| Token::Position(run.to_owned()))?
            } else if first.is_ascii_digit() {
                let fits = run.len() <= 10 && run.bytes().all(|byte| byte.is_ascii_digit());
                fits.then(|| Token::Number(run.to_owned()))?
            } else {
                // Other letters are folded by the server's locale.
                let is_name = run.is_ascii() && run.len() <= 63 && !run.is_empty() && first != '$';
                is_name.then(|| Token::Word(run.to_owned()))?
            };
            Some((token, rest))
        }
    }
}

/// What stands between quotation marks, of which two make one, and what follows.
fn quoted(mark: char, text: &str) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut rest = text.get(1..)?;
    loop {
        let (part, after) = rest.split_once(mark)?;
        content.push_str(part);
        match after.strip_prefix(mark) {
            Some(more) => {
                content.push(mark);
                rest = more;
            }
            None => return Some((content, after)),
        }
    }
}

/// The command with each literal replaced: what plugins are told is nobody's but theirs.
fn normalized(tokens: &[Token]) -> String {
    let mut text = String::new();
    let mut literals = 0;
    for token in tokens {
        if !text.is_empty() {
            text.push(' ');
        }
        match token {
            Token::Word(word) => text.push_str(word),
            Token::Quoted(name) => text.push_str(&format!("\"{}\"", name.replace('"', "\"\""))),
            Token::Text(_) => {
                literals += 1;
                text.push_str(&format!("${literals}"));
            }
            Token::Number(number) | Token::Position(number) => text.push_str(number),
            Token::Mark(mark) => text.push(*mark),
        }
    }
    text
}

struct Tokens<'a> {
    tokens: &'a [Token],
    at: usize,
}

/// An option: its name, and its value if it has one.
type Given<'a> = (String, Option<&'a Token>);

impl<'a> Tokens<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    fn take(&mut self, token: &Token) -> bool {
        let is = self.peek() == Some(token);
        self.at += usize::from(is);
        is
    }

    /// A word of the grammar, which is written in capitals.
    fn word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Word(found)) if found == word);
        self.at += usize::from(is);
        is
    }

    fn unexpected(&self) -> SqlRefusal {
        match self.peek() {
            Some(Token::Word(near) | Token::Quoted(near) | Token::Number(near) | Token::Position(near)) => {
                syntax_error(near)
            }
            Some(Token::Text(_)) => syntax_error("'"),
            Some(Token::Mark(mark)) => syntax_error(&mark.to_string()),
            None => syntax_error("end of input"),
        }
    }

    /// Everything behind the first word.
    fn command(&mut self, command: &mut Command) -> Option<()> {
        match command.kind {
            "identify_system" => {}
            "create_replication_slot" => self.create(command)?,
            "alter_replication_slot" => {
                command.slot = Some(self.name()?);
                self.options()?;
            }
            "drop_replication_slot" => {
                command.slot = Some(self.name()?);
                self.word("WAIT");
            }
            "read_replication_slot" => command.slot = Some(self.name()?),
            "start_replication" => self.start(command)?,
            "timeline_history" => self.number()?,
            "base_backup" => {
                self.base_backup()?;
            }
            _ => return None,
        }
        Some(())
    }

    /// A name as the server folds it; a word of the grammar is none.
    fn name(&mut self) -> Option<String> {
        let name = match self.peek()? {
            Token::Word(word) if !RESERVED.contains(&word.as_str()) => word.to_ascii_lowercase(),
            Token::Quoted(name) => name.clone(),
            _ => return None,
        };
        self.at += 1;
        Some(name)
    }

    fn number(&mut self) -> Option<()> {
        matches!(self.peek()?, Token::Number(_)).then(|| self.at += 1)
    }

    fn create(&mut self, command: &mut Command) -> Option<()> {
        command.slot = Some(self.name()?);
        self.word("TEMPORARY");
        if self.word("LOGICAL") {
            command.plugin = Some(self.name()?);
        } else if !self.word("PHYSICAL") {
            return None;
        }
        if self.peek() == Some(&Token::Mark('(')) {
            self.options()?;
        }
        let legacy = ["EXPORT_SNAPSHOT", "NOEXPORT_SNAPSHOT", "USE_SNAPSHOT", "RESERVE_WAL", "TWO_PHASE"];
        while legacy.iter().any(|word| self.word(word)) {}
        Some(())
    }

    fn start(&mut self, command: &mut Command) -> Option<()> {
        command.copying = Some(Copying::Both);
        if self.word("SLOT") {
            command.slot = Some(self.name()?);
        }
        if command.slot.is_some() && self.word("LOGICAL") {
            self.position()?;
            if self.peek() == Some(&Token::Mark('(')) {
                command.publications = self.publications()?;
            }
            return Some(());
        }
        self.word("PHYSICAL");
        self.position()?;
        if self.word("TIMELINE") {
            self.number()?;
        }
        Some(())
    }

    fn position(&mut self) -> Option<()> {
        matches!(self.peek()?, Token::Position(_)).then(|| self.at += 1)
    }

    /// The options of an output plugin: those of pgoutput name publications. Of several lists all count.
    fn publications(&mut self) -> Option<Vec<String>> {
        let mut publications = Vec::new();
        let options = self.list(|rest| {
            let name = rest.name()?;
            let value = matches!(rest.peek(), Some(Token::Text(_))).then(|| rest.next()).flatten();
            Some((name, value))
        })?;
        for (name, value) in options {
            if let ("publication_names", Some(Token::Text(value))) = (name.as_str(), value) {
                publications.extend(parse_search_path(value)?.iter().map(|name| String::from(&**name)));
            }
        }
        publications.sort_unstable();
        publications.dedup();
        Some(publications)
    }

    /// `(name [value], …)`.
    fn options(&mut self) -> Option<Vec<Given<'a>>> {
        self.list(|rest| {
            let name = match rest.next()? {
                Token::Word(name) | Token::Quoted(name) => name.clone(),
                _ => return None,
            };
            let has_value =
                matches!(rest.peek(), Some(Token::Word(_) | Token::Quoted(_) | Token::Text(_) | Token::Number(_)));
            Some((name, has_value.then(|| rest.next()).flatten()))
        })
    }

    fn list(&mut self, item: impl Fn(&mut Self) -> Option<Given<'a>>) -> Option<Vec<Given<'a>>> {
        self.take(&Token::Mark('(')).then_some(())?;
        let mut items = vec![item(self)?];
        while self.take(&Token::Mark(',')) {
            items.push(item(self)?);
        }
        self.take(&Token::Mark(')')).then_some(items)
    }

    fn base_backup(&mut self) -> Option<()> {
        if self.peek() == Some(&Token::Mark('(')) {
            return self.options().map(drop);
        }
        // As PostgreSQL 14 and older clients write it.
        loop {
            let has_text = ["LABEL", "MANIFEST", "MANIFEST_CHECKSUMS"].iter().any(|word| self.word(word));
            if has_text {
                matches!(self.next()?, Token::Text(_)).then_some(())?;
            } else if self.word("MAX_RATE") {
                self.number()?;
            } else if !["PROGRESS", "FAST", "WAL", "NOWAIT", "TABLESPACE_MAP", "NOVERIFY_CHECKSUMS"]
                .iter()
                .any(|word| self.word(word))
            {
                return Some(());
            }
        }
    }
}

/// Words of the server's grammar, which are names only in quotation marks.
const RESERVED: &[&str] = &[
    "ALTER_REPLICATION_SLOT",
    "BASE_BACKUP",
    "CREATE_REPLICATION_SLOT",
    "DROP_REPLICATION_SLOT",
    "EXPORT_SNAPSHOT",
    "FAST",
    "IDENTIFY_SYSTEM",
    "LABEL",
    "LOGICAL",
    "MANIFEST",
    "MANIFEST_CHECKSUMS",
    "MAX_RATE",
    "NOEXPORT_SNAPSHOT",
    "NOVERIFY_CHECKSUMS",
    "NOWAIT",
    "PHYSICAL",
    "PROGRESS",
    "READ_REPLICATION_SLOT",
    "RESERVE_WAL",
    "SHOW",
    "SLOT",
    "START_REPLICATION",
    "TABLESPACE_MAP",
    "TEMPORARY",
    "TIMELINE",
    "TIMELINE_HISTORY",
    "TWO_PHASE",
    "UPLOAD_MANIFEST",
    "USE_SNAPSHOT",
    "WAIT",
    "WAL",
];

#[cfg(test)]
mod tests;
