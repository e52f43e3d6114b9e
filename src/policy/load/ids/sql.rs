//! Dotted names of SQL, as ids have them.

use super::form;
use super::shape::example;

pub(super) fn sql(kind: &str, endpoint: &str, name: &str) -> Result<(), (String, String)> {
    let wanted = match kind {
        "Database" => 1,
        "Schema" => 2,
        _ => 3,
    };
    let parts = sql_parts(name).unwrap_or_default();
    if parts.len() == wanted {
        return Ok(());
    }
    if parts.len() + 1 == wanted {
        return Err((
            format!("is not {}", form(kind)),
            format!("write `{kind}::\"{endpoint}/DATABASE.{name}\"`, as in `{kind}::\"{}\"`", example(kind)),
        ));
    }
    Err((
        format!("is not {}", form(kind)),
        format!(
            "write `{kind}::\"{}\"`; names that SQL would quote are quoted here too: `{endpoint}/db.\\\"Sales 2026\\\"`",
            form(kind).replacen("ENDPOINT", endpoint, 1)
        ),
    ))
}

/// The parts of a dotted SQL name as they are written; none if a part is neither plain nor quoted as SQL does it, or quoted without need.
pub(super) fn sql_parts(name: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        let end = sql_part_end(rest)?;
        parts.push(rest.get(..end)?);
        rest = match rest.get(end..)?.strip_prefix('.') {
            Some(rest) => rest,
            None if end == rest.len() => return Some(parts),
            None => return None,
        };
    }
}

fn sql_part_end(name: &str) -> Option<usize> {
    let plain = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$')
    };
    let Some(quoted) = name.strip_prefix('"') else {
        let end = name.find('.').unwrap_or(name.len());
        return name.get(..end).filter(|part| plain(part)).map(str::len);
    };
    let mut quotes = quoted.match_indices('"').peekable();
    while let Some((at, _)) = quotes.next() {
        if quotes.next_if(|(next, _)| *next == at + 1).is_none() {
            let inner = quoted.get(..at)?;
            return (!inner.is_empty() && !plain(inner)).then_some(at + 2);
        }
    }
    None
}
