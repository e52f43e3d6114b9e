//! What parses and does not go with the schema.

use cedar_policy::ValidationError;

use super::place::clause;
use super::{attributes, named};
use crate::policy::forms::ActionForms;
use crate::policy::load::ids;

/// What to write in place of what Cedar refused at this place; none if its own help says it, or nobody knows.
pub(in crate::policy::load) fn of_type(
    cause: &ValidationError,
    policy: &str,
    (text, at): (&str, usize),
    forms: &ActionForms,
) -> Option<String> {
    let message = cause.to_string();
    let told = message.strip_prefix(&format!("for policy `{policy}`, ")).unwrap_or(&message);
    let here = text.get(at..).unwrap_or_default();
    match cause {
        ValidationError::UnexpectedType(_) => {
            let (expected, saw) = told.strip_prefix("unexpected type: expected ")?.split_once(" but saw ")?;
            unexpected(expected, saw, here, &clause(text, at))
        }
        ValidationError::IncompatibleTypes(_) => {
            let (one, other) =
                told.strip_prefix("the types ")?.split_once(" are not compatible")?.0.split_once(" and ")?;
            incompatible(one, other, &clause(text, at))
        }
        ValidationError::UnsafeOptionalAttributeAccess(_) => attributes::ask_first(text, at, told),
        ValidationError::UnsafeAttributeAccess(_) => attributes::unknown(text, at, told, forms),
        ValidationError::UnsafeTagAccess(_) => attributes::ask_for_tag(text, at),
        ValidationError::UnrecognizedEntityType(_) => Some(named::unknown_type(told.split('`').nth(1)?)),
        _ => None,
    }
}

/// Why a condition can never be true, as far as it can be told.
pub(in crate::policy::load) fn never_true(text: &str) -> &'static str {
    match text.contains("headers has ") || text.contains("claims has ") {
        true => "headers and claims are tags: `context.headers.hasTag(\"x-tenant\")`, not `context.headers has …`",
        false => {
            "an attribute of another kind of request, a comparison that is never true, or `==` where `in` is meant"
        }
    }
}

/// Whether Cedar says of the right side of an `in` what it has said of the left one.
pub(in crate::policy::load) fn is_said_of_left(cause: &ValidationError) -> bool {
    matches!(cause, ValidationError::UnexpectedType(_))
        && cause.to_string().contains("expected Set<__cedar::internal::AnyEntity>, or")
}

/// Whether Cedar says that the left side of an `in` is no entity.
pub(in crate::policy::load) fn is_of_left(cause: &ValidationError) -> bool {
    matches!(cause, ValidationError::UnexpectedType(_))
        && cause.to_string().contains("expected __cedar::internal::AnyEntity but")
}

/// Cedar's message without the names of types that nobody can write.
pub(in crate::policy::load) fn in_words(message: &str) -> String {
    let shorter = message
        .replace("Set<__cedar::internal::AnyEntity>", "a set of entities")
        .replace("__cedar::internal::AnyEntity", "an entity");
    let shorter = shorter.replace("__cedar::internal::OpenRecord{}", "a record");
    // The whole context, attribute for attribute.
    match shorter.split_once("but saw {") {
        Some((before, rest)) if rest.len() > 200 => format!("{before}but saw a record"),
        _ => shorter,
    }
}

fn unexpected(expected: &str, saw: &str, here: &str, whole: &str) -> Option<String> {
    let literal = here.strip_prefix('"').and_then(|rest| rest.split('"').next());
    if expected == "String" {
        if let Some((of, pattern)) = whole.split_once(" like \"") {
            return Some(like(of, saw, pattern.trim_end_matches('"')));
        }
        return saw.starts_with("Set<").then(|| format!("it is a set: `{whole}.contains(\"…\")`"));
    }
    if expected == "Bool" {
        return Some(match literal {
            Some(_) => format!("compare it with something: `context.operation == {whole}`"),
            None if saw == "String" => format!("compare it with something: `{whole} == \"…\"`"),
            None if whole.contains(" has ") && here.starts_with("context") => format!("write `!({whole})`"),
            None => return None,
        });
    }
    match (expected, saw, literal) {
        ("Long", "String", Some(number)) if number.parse::<i64>().is_ok() => {
            Some(format!("numbers stand without quotes: `{number}`"))
        }
        ("datetime", "String", Some(literal)) => Some(format!("write `datetime(\"{literal}\")`")),
        ("duration", "String", Some(literal)) => Some(format!("write `duration(\"{literal}\")`")),
        ("ipaddr", "String", Some(literal)) => Some(format!("write `ip(\"{literal}\")`")),
        (_, "datetime", _) if expected.contains("OpenRecord") => Some(
            "a time has no attributes; the time of day is a duration since midnight, UTC: `context.now.toTime() >= duration(\"8h\")`"
                .to_owned(),
        ),
        ("Long", "duration", _) => Some("compare it with a duration: `duration(\"8h\")`".to_owned()),
        ("Long", "datetime", _) => Some("compare it with a time: `datetime(\"2026-12-01T00:00:00Z\")`".to_owned()),
        ("duration", "Long", _) => Some("write a duration: `duration(\"8h\")`".to_owned()),
        ("datetime", "Long", _) => Some("write a time: `datetime(\"2026-12-01T00:00:00Z\")`".to_owned()),
        _ if saw == "Bool" && here.starts_with('!') => Some(format!("write `!({})`", whole.trim_start_matches('!'))),
        _ if expected.contains("AnyEntity") => of_membership(saw, whole),
        _ => None,
    }
}

/// `in` is for entities; for texts and sets it is `==` and `contains`.
fn of_membership(saw: &str, whole: &str) -> Option<String> {
    let (left, right) = whole.split_once(" in ")?;
    match saw {
        "String" if right.starts_with('[') || right.starts_with("context.") => {
            Some(format!("`in` is for entities: write `{right}.contains({left})`"))
        }
        "String" => Some(format!("`in` is for entities: write `{left} == {right}`")),
        _ if saw.starts_with("Set<") && right.starts_with('[') => {
            Some(format!("`in` is for entities: write `{left}.containsAny({right})`"))
        }
        _ => None,
    }
}

fn incompatible(one: &str, other: &str, whole: &str) -> Option<String> {
    if whole.contains(".contains([") {
        let any = whole.replacen(".contains([", ".containsAny([", 1);
        return Some(format!("`contains` is about one: write `{any}`, or `containsAll` if all have to be there"));
    }
    let (left, right) = whole.split_once(" == ").or_else(|| whole.split_once(" != "))?;
    let is_not = whole.contains(" != ");
    let other = if one == "String" { other } else { one };
    let literal = right.strip_prefix('"')?.strip_suffix('"')?;
    let operator = if is_not { "!=" } else { "==" };
    Some(match other {
        "Set<String>" => format!("it is a set: write `{}{left}.contains({right})`", if is_not { "!" } else { "" }),
        "ipaddr" => {
            format!("write `{left} {operator} ip({right})`, for a network `{left}.isInRange(ip(\"10.0.0.0/8\"))`")
        }
        "datetime" => format!("write `{left} {operator} datetime({right})`"),
        "Long" => format!("numbers stand without quotes: `{literal}`"),
        "Bool" => format!("write `{}{left}`", if (literal == "true") == is_not { "!" } else { "" }),
        "Workload" => format!("write its type too: `{left} {operator} Workload::{right}`"),
        kind => format!("an entity is compared with an entity: `{left} {operator} {kind}::{right}`"),
    })
}

/// `like` on what is no text.
fn like(of: &str, saw: &str, pattern: &str) -> String {
    let above = pattern.strip_suffix("/*").filter(|above| !above.contains('*'));
    if saw.starts_with("Set<") {
        return format!("`like` is for texts, and this is a set: `{of}.contains(\"…\")`");
    }
    match above {
        Some(above) if saw == "Workload" => {
            format!("`like` is for texts. For every workload below write `{of} in Workload::\"{above}\"`")
        }
        Some(above) if ids::endpoint(saw, "").is_some() => {
            format!("`like` is for texts. For everything below write `{of} in {}`", ids::everything_below(saw, above))
        }
        _ => "`like` is for texts. For everything below a path write `resource in Prefix::\"ENDPOINT/BUCKET/FOLDER\"` or `resource in \
              HttpPath::\"ENDPOINT/PATH\"`"
            .to_owned(),
    }
}
