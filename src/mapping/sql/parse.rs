//! From a text to PostgreSQL's own syntax tree.

use std::panic::catch_unwind;

use pg_query::protobuf::RawStmt;

use super::asked::refused;
use super::{SqlRefusal, depth};

/// Longest text that is judged, in bytes. A tree takes some thirty times the memory of its text; what is longer than this is data, and data
/// goes by COPY or by parameters.
pub const LONGEST_TEXT: usize = 16 * 1024 * 1024;

/// The stack that a thread must have on which texts are judged. Only what is used of it takes memory.
///
/// Decoding takes the most: 10,000 messages of some 16 KiB each, and as much again to be sure.
pub const STACK: usize = 384 * 1024 * 1024;

/// Parses that are spent on finding where a syntax error is: the parser's binding does not say.
const SEARCHES: usize = 24;
/// A longer text is not searched for the place of its error.
const LONGEST_SEARCHED: usize = 8 * 1024;

/// The statements of a text. None for an empty text or only comments.
///
/// Nothing here can run out of stack on a thread of [`STACK`]: the C parser keeps its states on the heap, measures its stack while it writes
/// the tree, and writes none of more than 10,000 messages in each other (`PG_QUERY_PROTOBUF_MAX_DEPTH` of libpg_query). Texts that are deeper
/// than [`depth`] lets pass are refused before.
///
/// # Errors
/// `42601` with the parser's own words for what is no SQL, `54001` for what is too deep, `54000` for what is too long.
pub(super) fn parse(text: &str) -> Result<Vec<RawStmt>, SqlRefusal> {
    if text.len() > LONGEST_TEXT {
        let message = format!("statement has {} bytes, at most {LONGEST_TEXT} are judged", text.len());
        return Err(SqlRefusal { sqlstate: "54000", ..refused("text-too-long", message) });
    }
    if depth::is_too_deep(text) {
        return Err(too_deep());
    }
    // The binding makes a summary of the tree on the way, by code that panics on what its author did not foresee.
    match catch_unwind(|| pg_query::parse(text, 0)) {
        Ok(Ok(parsed)) => Ok(parsed.protobuf.stmts),
        Ok(Err(pg_query::Error::Parse(message))) if is_too_deep(&message) => Err(too_deep()),
        Ok(Err(pg_query::Error::Parse(message))) => {
            let position = position_of(text, &message);
            Err(SqlRefusal { sqlstate: "42601", rule: "syntax", message, position, stale: false })
        }
        Ok(Err(pg_query::Error::Decode(_))) => Err(too_deep()),
        Ok(Err(pg_query::Error::Conversion(_))) => Err(refused("nul", "statement has a NUL byte")),
        Ok(Err(_)) | Err(_) => Err(refused("parser", "statement cannot be parsed")),
    }
}

/// # Source
/// libpg_query: `check_stack_depth`, and bison's `YYMAXDEPTH` ("memory exhausted").
fn is_too_deep(message: &str) -> bool {
    message.starts_with("stack depth limit exceeded") || message.starts_with("memory exhausted")
}

fn too_deep() -> SqlRefusal {
    let message = "statement is nested too deeply to be judged";
    SqlRefusal { sqlstate: "54001", ..refused("too-deep", message) }
}

/// Where an error is, in characters from 1.
///
/// A message ends with the token that the grammar could not take, or says that the text ended too soon. The token may stand in the text many
/// times: the first place is meant at which the text up to there is wrong in the same way, which is found by halving.
fn position_of(text: &str, message: &str) -> Option<u32> {
    let characters = |end: usize| u32::try_from(text.get(..end)?.chars().count() + 1).ok();
    if message.ends_with("at end of input") {
        return characters(text.len());
    }
    let token = message.split_once("at or near \"")?.1.strip_suffix('"')?;
    if token.is_empty() || text.len() > LONGEST_SEARCHED {
        return None;
    }
    let places: Vec<usize> = text.match_indices(token).map(|(at, _)| at).collect();
    let wrong_at = |at: usize| {
        let upto = text.get(..at + token.len()).unwrap_or_default();
        matches!(catch_unwind(|| pg_query::parse(upto, 0)), Ok(Err(pg_query::Error::Parse(found))) if found == message)
    };
    let (mut first, mut last) = (0, places.len().checked_sub(1)?);
    for _ in 0..SEARCHES {
        if first >= last {
            break;
        }
        let middle = usize::midpoint(first, last);
        if wrong_at(*places.get(middle)?) { last = middle } else { first = middle + 1 }
    }
    characters(*places.get(first)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> SqlRefusal {
        parse(text).map(|statements| statements.len()).expect_err("refused")
    }

    #[test]
    fn a_syntax_error_has_the_parsers_words_and_its_place() {
        let cases = [
            ("SELEC 1", "syntax error at or near \"SELEC\"", 1),
            ("SELECT 1 FROM", "syntax error at end of input", 14),
            ("SELECT é, 1 1 FROM t", "syntax error at or near \"1\"", 13),
            ("SELECT 'a", "unterminated quoted string at or near \"'a\"", 8),
            ("SELECT a a a", "syntax error at or near \"a\"", 12),
        ];
        for (text, message, position) in cases {
            let refusal = refusal(text);
            assert_eq!(
                (refusal.sqlstate, &*refusal.message, refusal.position),
                ("42601", message, Some(position)),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_that_is_nested_brings_the_process_down() {
        let deep = 100_000;
        let bombs = [
            "(".repeat(deep),
            format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep)),
            format!("SELECT {}1", "NOT ".repeat(deep)),
            format!("SELECT {}1", "- ".repeat(deep)),
            format!("SELECT 1{}", "+1".repeat(deep)),
            format!("SELECT 'a'{}", "||'a'".repeat(deep)),
            format!("SELECT a{}", "::text".repeat(deep)),
            format!("SELECT {}1{}", "ARRAY[".repeat(deep), "]".repeat(deep)),
            format!("SELECT 1{}", " UNION SELECT 1".repeat(deep)),
            format!("{}SELECT 1{}", "SELECT (".repeat(deep), ")".repeat(deep)),
            format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(deep), " END".repeat(deep)),
            format!("SELECT {}1{}", "f(".repeat(deep), ")".repeat(deep)),
            format!("SELECT * FROM a{}", " JOIN a ON true".repeat(deep)),
            format!("{}SELECT 1", "EXPLAIN ".repeat(deep)),
            format!("{}SELECT 1{}", "WITH a AS (".repeat(deep), ") SELECT 1".repeat(deep)),
        ];
        for bomb in bombs {
            let start: String = bomb.chars().take(24).collect();
            let thread = std::thread::Builder::new().stack_size(STACK);
            let refusal = thread.spawn(move || refusal(&bomb)).expect("spawns").join().expect("no panic");
            assert!(matches!(refusal.rule, "too-deep" | "syntax"), "{start}: {refusal:?}");
        }
    }

    #[test]
    fn what_is_only_wide_is_understood() {
        let wide = 20_000;
        for text in [
            format!("SELECT * FROM t WHERE a IN (0{})", ",1".repeat(wide)),
            format!("INSERT INTO t VALUES (0){}", ",(1)".repeat(wide)),
            format!("SELECT a{}", "[1]".repeat(wide)),
            format!("SELECT * FROM t WHERE true{}", " AND a = 1".repeat(10_000)),
            "SELECT 1;".repeat(10_000),
        ] {
            assert!(parse(&text).is_ok(), "{} bytes", text.len());
        }
    }
}
