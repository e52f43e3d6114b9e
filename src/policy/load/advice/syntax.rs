//! What does not parse.

use std::ops::Range;

use super::place::{Before, clause, line, unclosed_string};
use crate::config::nearest;

/// Cedar's methods (<https://docs.cedarpolicy.com/policies/syntax-operators.html>).
const METHODS: [&str; 24] = [
    "contains",
    "containsAll",
    "containsAny",
    "isEmpty",
    "hasTag",
    "getTag",
    "isInRange",
    "isIpv4",
    "isIpv6",
    "isLoopback",
    "isMulticast",
    "lessThan",
    "lessThanOrEqual",
    "greaterThan",
    "greaterThanOrEqual",
    "offset",
    "durationSince",
    "toDate",
    "toTime",
    "toMilliseconds",
    "toSeconds",
    "toMinutes",
    "toHours",
    "toDays",
];

/// What to write in place of what Cedar could not parse at this place; none if its own help says it, or nobody knows.
pub(in crate::policy::load) fn of_syntax(text: &str, span: Option<Range<usize>>, message: &str) -> Option<String> {
    let span = span?;
    let written = text.get(span.clone()).unwrap_or_default();
    let before = Before::new(text, span.start);
    let quoted = || message.split('`').nth(1).unwrap_or_default();
    if message.starts_with("invalid token") && text.get(span.start..).is_some_and(|rest| rest.starts_with('"')) {
        return unclosed_string(text).map(|line| format!("a string that begins on line {line} does not end there"));
    }
    if message.starts_with("unexpected token") || message.starts_with("invalid token") {
        return of_token(text, span.start, &before);
    }
    if message.starts_with("unexpected end of input") {
        return Some(not_ended(&before));
    }
    if message.starts_with("expected single entity uid") {
        return Some(of_set(written, &before));
    }
    if message.starts_with("expected an entity uid") {
        return of_no_entity(message, &before);
    }
    if let Some(effect) = message.strip_prefix("invalid policy effect: ") {
        let meant = match effect.to_lowercase().as_str() {
            "allow" | "grant" => Some("permit"),
            "deny" | "disallow" | "block" => Some("forbid"),
            other => nearest(other, ["permit", "forbid"]),
        };
        return meant.map(|meant| format!("write `{meant}`: a policy either permits or forbids"));
    }
    if message.ends_with("is not a valid method") {
        return of_method(text, span.start, quoted());
    }
    if message.ends_with("is not a valid function") {
        return of_function(written, quoted());
    }
    if let Some(name) = message.strip_prefix("invalid variable: ") {
        return of_variable(text, span.start, name);
    }
    message
        .ends_with("condition clause cannot be empty")
        .then(|| "leave it away, or write a condition into it".to_owned())
}

/// A word or sign that cannot stand where it does.
fn of_token(text: &str, at: usize, before: &Before<'_>) -> Option<String> {
    let rest = text.get(at..).unwrap_or_default();
    let word: &str = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    let first = rest.chars().next()?;
    match first {
        '\u{feff}' => return Some("the file begins with a byte order mark: save it as UTF-8 without one".to_owned()),
        '“' | '”' | '„' | '‘' | '’' => {
            return Some("strings stand in straight double quotes: `\"`".to_owned());
        }
        '#' => return Some("comments begin with `//`".to_owned()),
        '/' if rest.starts_with("/*") => return Some("comments begin with `//`, each line with its own".to_owned()),
        '-' if rest.starts_with("--") => return Some("comments begin with `//`".to_owned()),
        '&' | '|' => return Some(format!("write `{first}{first}`")),
        '\'' => return None,
        _ => {}
    }
    if before.policy.starts_with('@') && !before.has_effect() {
        return of_annotation(rest, first, before);
    }
    let is_next_policy = first == '@' || word == "permit" || word == "forbid";
    if before.has_effect() && (is_next_policy || (first == ';' && !before.open.is_empty())) {
        return Some(not_ended(before));
    }
    if first == ':' {
        let name =
            before.policy.rsplit(|c: char| !c.is_alphanumeric() && c != ':' && c != '_').next().unwrap_or_default();
        return Some(match name.split_once("::") {
            Some((kind, id)) => {
                let more = rest.split(|c: char| !c.is_alphanumeric() && c != ':').next().unwrap_or_default();
                format!("ids stand in quotes: `{kind}::\"{id}{more}\"`")
            }
            None if rest.starts_with("::") && before.is_in_scope() => several(name, rest, before)?,
            None => format!("write two colons between a type and an id: `{name}::\"…\"`"),
        });
    }
    if before.is_in_scope() {
        return of_scope(rest, word, before);
    }
    match before.words().last() {
        Some(keyword @ ("when" | "unless")) if before.open.is_empty() => {
            return Some(format!("conditions stand in braces: `{keyword} {{ {} }}`", clause(text, at)));
        }
        _ => {}
    }
    of_condition(text, at, word, before)
}

/// A second entity of the scope, after a comma.
fn several(kind: &str, rest: &str, before: &Before<'_>) -> Option<String> {
    let id = rest.split('"').nth(1)?;
    let variable = before.variable();
    let first = before.policy.rsplit_once(&format!("{variable} in "))?.1.split(',').next()?;
    let both = format!("{variable} in [{first}, {kind}::\"{id}\"]");
    Some(match variable {
        "action" => format!("several stand in brackets: `{both}`"),
        _ => format!("here stands one: write `{variable}` alone and below it `when {{ {both} }}`"),
    })
}

fn of_annotation(rest: &str, first: char, before: &Before<'_>) -> Option<String> {
    let last = before.policy.rsplit('@').next().unwrap_or_default();
    let name = last.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())?;
    if first == ';' {
        return Some("an annotation belongs to the policy below it: no `;` after it".to_owned());
    }
    let value: &str = rest.split([')', '\n']).next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    (!value.is_empty() && !last.contains(')')).then(|| format!("write `@{name}(\"{value}\")`"))
}

/// Where a policy does not end.
fn not_ended(before: &Before<'_>) -> String {
    match before.open.last() {
        Some((bracket, line)) => {
            let close = match bracket {
                '(' => ')',
                '[' => ']',
                _ => '}',
            };
            format!("the `{bracket}` on line {line} is not closed: a `{close}` is missing")
        }
        None if before.has_effect() => {
            format!("a `;` is missing at the end of the policy that begins on line {}", before.line)
        }
        None => "after the annotations stands a policy: `permit (principal, action, resource);`".to_owned(),
    }
}

fn of_scope(rest: &str, word: &str, before: &Before<'_>) -> Option<String> {
    let variable = before.variable();
    match word {
        "like" => {
            let pattern = rest.split('"').nth(1).unwrap_or_default();
            let below = match variable {
                "principal" => "`principal in Workload::\"spiffe://TRUST-DOMAIN/PATH\"`".to_owned(),
                _ => {
                    let folder =
                        pattern.strip_suffix("/*").filter(|folder| !folder.contains('*')).unwrap_or("ENDPOINT/PATH");
                    format!("`{variable} in HttpPath::\"{folder}\"` (or Bucket, Prefix …)")
                }
            };
            Some(format!("there are no patterns here. For everything below write {below}"))
        }
        _ if rest.starts_with('*') => {
            Some("there is no `*`: `principal` alone is anybody, `action` any action, `resource` anything".to_owned())
        }
        "and" | "or" | "not" => Some(
            "one constraint for each of principal, action and resource; more of them go into `when { … }`".to_owned(),
        ),
        _ => None,
    }
}

fn of_condition(text: &str, at: usize, word: &str, before: &Before<'_>) -> Option<String> {
    let operator = match word.to_lowercase().as_str() {
        "and" => Some("&&"),
        "or" => Some("||"),
        "not" => Some("!"),
        "is_in" | "within" => Some("in"),
        _ => None,
    };
    if let Some(operator) = operator {
        return Some(format!("write `{operator}` for `{word}`"));
    }
    if before.open.is_empty() {
        return None;
    }
    let last = before.policy.chars().last().unwrap_or_default();
    let first = text.get(at..)?.chars().next()?;
    if first.is_ascii_digit() && last == '.' {
        return Some("numbers are whole; a fraction is `decimal(\"1.5\")`, and no attribute here has one".to_owned());
    }
    if last.is_ascii_digit() && first.is_alphabetic() && text.get(..at).is_some_and(|before| before.ends_with(last)) {
        return Some("numbers have no units: sizes are in bytes".to_owned());
    }
    let is_operand = first.is_alphanumeric() || matches!(first, '(' | '!' | '"' | '[');
    let is_after_operand = last.is_alphanumeric() || matches!(last, ')' | '"' | ']');
    (is_operand && is_after_operand)
        .then(|| "an operator is missing before it: `&&` (both) or `||` (either)".to_owned())
}

/// A set where one entity is expected.
fn of_set(set: &str, before: &Before<'_>) -> String {
    let set = set.split_whitespace().collect::<Vec<_>>().join(" ");
    match before.variable() {
        "action" => format!("write `action in {set}`"),
        variable => format!(
            "here stands one: write `{variable}` alone and below it `when {{ {variable} in {set} }}`, or a policy for each, or put them into \
             a Group in entities.json"
        ),
    }
}

fn of_no_entity(message: &str, before: &Before<'_>) -> Option<String> {
    let found = message.split_once("found ").map_or("", |(_, found)| found);
    if let Some(name) = found.strip_prefix("name `").and_then(|name| name.strip_suffix('`')) {
        let (kind, id) = name.rsplit_once("::")?;
        return Some(format!("ids stand in quotes: `{kind}::\"{id}\"`"));
    }
    let literal = found.strip_prefix("literal `\"")?.strip_suffix("\"`")?;
    let variable = before.variable();
    let entity = match (variable, literal) {
        (_, "*") => return Some(format!("write `{variable}` alone: there is no `*`")),
        ("action", action) => format!("Action::\"{action}\""),
        ("principal", id) => match id.strip_prefix("spiffe://") {
            Some(domain) if !domain.contains('/') => format!("TrustDomain::\"{domain}\""),
            Some(_) => format!("Workload::\"{id}\""),
            None => format!("Stage::\"{id}\""),
        },
        _ => {
            return Some(
                "write its type too: `Bucket::\"ENDPOINT/BUCKET\"`, `HttpPath::\"ENDPOINT/PATH\"` …".to_owned(),
            );
        }
    };
    Some(format!("write its type too: `{entity}`"))
}

fn of_method(text: &str, at: usize, name: &str) -> Option<String> {
    let whole = clause(text, at);
    let of = whole.split(&format!(".{name}(")).next().unwrap_or("…").to_owned();
    Some(match name.to_lowercase().as_str() {
        "includes" | "has" | "include" => format!("write `{}`", whole.replacen(&format!(".{name}("), ".contains(", 1)),
        "startswith" => format!("write `{of} like \"BEGINNING*\"`"),
        "endswith" => format!("write `{of} like \"*END\"`"),
        "matches" | "match" | "regex" => format!("there are no regular expressions: `{of} like \"A*B\"`"),
        "hour" | "hours" | "gethour" | "gethours" => {
            format!("the time of day is a duration since midnight, UTC: `{of}.toTime() >= duration(\"8h\")`")
        }
        _ => match nearest(name, METHODS) {
            Some(method) => format!("did you mean `{method}`?"),
            None => format!("methods are {}", METHODS.map(|method| format!("`{method}`")).join(", ")),
        },
    })
}

fn of_function(written: &str, name: &str) -> Option<String> {
    const FUNCTIONS: [&str; 4] = ["ip", "datetime", "duration", "decimal"];
    let arguments = written.strip_prefix(name).unwrap_or_default().trim_start();
    Some(match name.to_lowercase().as_str() {
        "not" => format!("write `!{}`", if arguments.is_empty() { "(…)" } else { arguments }),
        "cidr" | "ipaddr" => format!("write `ip{arguments}`"),
        "date" | "time" | "timestamp" => format!("write `datetime{arguments}`"),
        _ => match nearest(name, FUNCTIONS).filter(|_| name.len() > 2) {
            Some(function) => format!("did you mean `{function}`?"),
            None => format!("functions are {}", FUNCTIONS.map(|function| format!("`{function}`")).join(", ")),
        },
    })
}

fn of_variable(text: &str, at: usize, name: &str) -> Option<String> {
    let here = text.get(..at).unwrap_or_default();
    if let Some(start) = here.strip_suffix('-').and_then(|before| before.rfind("context.headers.")) {
        let header = here.get(start + "context.headers.".len()..).unwrap_or_default();
        let header = format!("{header}{name}");
        return Some(format!(
            "headers are tags: `context.headers.hasTag(\"{header}\") && context.headers.getTag(\"{header}\").contains(\"…\")`"
        ));
    }
    let on = line(text, at);
    Some(match name.to_lowercase().as_str() {
        "true" | "false" => format!("write `{}`, in lower case", name.to_lowercase()),
        "null" | "nil" | "none" | "undefined" => {
            let whole = text.lines().nth(on.saturating_sub(1)).unwrap_or_default();
            match whole.split("context.").nth(1).and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next()) {
                Some(attribute) if !attribute.is_empty() => {
                    format!("there is no null: ask whether it is there, `context has {attribute}`")
                }
                _ => "there is no null: ask whether it is there, `context has NAME`".to_owned(),
            }
        }
        "user" | "workload" | "subject" | "peer" | "client" => "who asks is `principal`".to_owned(),
        "request" | "req" | "ctx" | "env" => "what is known of a request is in `context`".to_owned(),
        _ => return None,
    })
}
