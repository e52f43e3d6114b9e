//! Attributes and tags: what is missing, what must be asked for first, what has other names.

use std::collections::BTreeSet;

use super::place::clause;
use crate::config::nearest;
use crate::policy::forms::ActionForms;
use crate::policy::load::ids;

/// What is computed for a workload.
pub(in crate::policy::load) const OF_WORKLOADS: [&str; 5] =
    ["spiffeId", "trustDomain", "path", "namespace", "serviceAccount"];

/// `context has encryption && context.encryption == "aws:kms"`, from the condition as it is written. `told` is what Cedar says of the
/// access: `` `encryption` in context for … `` or `` `namespace` on entity type … ``.
pub(super) fn ask_first(text: &str, at: usize, told: &str) -> Option<String> {
    let path = told.split('`').nth(1)?;
    let whole = clause(text, at);
    let base = match told.contains(" in context ") {
        true => "context",
        false => whole.split(&format!(".{path}")).next().filter(|base| is_path(base) && *base != whole)?,
    };
    if !whole.starts_with(&format!("{base}.{path}")) {
        return Some(format!("it may not be there: ask first, `{base} has {path} && …`"));
    }
    Some(format!("it may not be there: ask first, `{base} has {path} && {whole}`"))
}

/// `context.headers.hasTag("x") && context.headers.getTag("x").contains("a")`, from the condition as it is written.
pub(super) fn ask_for_tag(text: &str, at: usize) -> Option<String> {
    let whole = clause(text, at);
    let (base, rest) = whole.split_once(".getTag(")?;
    let name = rest.split(')').next()?;
    is_path(base).then(|| format!("it may not be there: ask first, `{base}.hasTag({name}) && {whole}`"))
}

/// An attribute that is not there. `told`: `` `columns` in context for Action::"s3:PutObject" not found ``.
pub(super) fn unknown(text: &str, at: usize, told: &str, forms: &ActionForms) -> Option<String> {
    let path = told.split('`').nth(1)?;
    if let Some((_, action)) = told.split_once(" in context for Action::\"") {
        let action = action.split('"').next().unwrap_or_default();
        return Some(of_context(text, at, path, action, forms));
    }
    let kind = told.split('`').nth(3)?;
    let name = path.trim_start_matches("[\"").trim_end_matches("\"]");
    let whole = clause(text, at);
    let base = whole.split(['.', '[']).next().unwrap_or("resource");
    match kind {
        "Headers" | "Claims" => {
            let base = if kind == "Headers" { "context.headers" } else { "context.token.claims" };
            Some(format!("these are tags: `{base}.hasTag(\"{name}\") && {base}.getTag(\"{name}\").contains(\"…\")`"))
        }
        "Workload" => Some(match (name, nearest(name, OF_WORKLOADS)) {
            ("stage" | "group", _) => {
                let kind = if name == "stage" { "Stage" } else { "Group" };
                let id = whole.split('"').nth(1).unwrap_or("…");
                format!("what a workload is in is no attribute: `{base} in {kind}::\"{id}\"`")
            }
            (_, Some(meant)) => format!("did you mean `{meant}`?"),
            (_, None) => format!(
                "a workload has {}; what entities.json adds are tags, `{base}.hasTag(\"{name}\") && {base}.getTag(\"{name}\").contains(\"…\")`",
                OF_WORKLOADS.map(|attribute| format!("`{attribute}`")).join(", ")
            ),
        }),
        _ if ids::endpoint(kind, "").is_some() => Some(format!(
            "`{kind}` has no attributes: its id says what it is. Write `{base} == {kind}::\"{}\"`, or `{base} in {}` for everything below",
            ids::form(kind),
            ids::form_above(kind)
        )),
        _ => None,
    }
}

fn of_context(text: &str, at: usize, path: &str, action: &str, forms: &ActionForms) -> String {
    if let Some(meant) = meant_elsewhere(path) {
        return meant;
    }
    let here = forms.get(action).map(|form| form.attributes().collect::<Vec<_>>()).unwrap_or_default();
    if let Some(meant) = nearest(path, here.iter().copied()) {
        return format!("did you mean `context.{meant}`?");
    }
    let protocols: BTreeSet<&str> = forms
        .iter()
        .filter(|(_, form)| form.attributes().any(|name| name == path))
        .filter_map(|(action, _)| action.split(':').next())
        .collect();
    if protocols.is_empty() {
        let all: BTreeSet<&str> = forms.iter().flat_map(|(_, form)| form.attributes()).collect();
        return match nearest(path, all) {
            Some(meant) => format!("did you mean `context.{meant}`?"),
            None => "docs/policy-schema.md lists what the context holds".to_owned(),
        };
    }
    let protocols: Vec<_> = protocols.into_iter().map(|protocol| format!("`{protocol}:…`")).collect();
    let whole = clause(text, at);
    let ask = match whole.starts_with(&format!("context.{path}")) {
        true => format!("context has {path} && {whole}"),
        false => format!("context has {path} && …"),
    };
    format!(
        "only requests by actions {} have it: name those in the scope; in a policy that is about others too ask first, `{ask}`",
        protocols.join(" and ")
    )
}

/// What to ask for in place of an attribute that there is not; `of` is `context`, `principal`, `context.headers` or the claims.
pub(in crate::policy::load) fn never_there(of: &str, name: &str, context: &BTreeSet<&str>) -> String {
    let meant = match of {
        "context" => nearest(name, context.iter().copied()),
        "principal" => nearest(name, OF_WORKLOADS),
        _ => return format!("these are tags: `{of}.hasTag(\"{name}\")`"),
    };
    match (meant, of) {
        (Some(meant), _) => format!("did you mean `{of} has {meant}`?"),
        (None, "context") => {
            meant_elsewhere(name).unwrap_or_else(|| "docs/policy-schema.md lists what the context holds".to_owned())
        }
        (None, _) => format!("what entities.json adds are tags: `{of}.hasTag(\"{name}\")`"),
    }
}

/// What others call what is no attribute here.
fn meant_elsewhere(path: &str) -> Option<String> {
    let said = match path.to_ascii_lowercase().as_str() {
        "method" | "verb" => "the method is the action: `action == Action::\"http:GET\"`",
        "path" | "uri" | "url" => "the path is the resource: `resource in HttpPath::\"ENDPOINT/PATH\"`",
        "bucket" | "key" | "object" => "bucket and key are the resource: `resource in Bucket::\"ENDPOINT/BUCKET\"`",
        "table" | "schema" | "database" => {
            "the table is the resource: `resource == Table::\"ENDPOINT/DATABASE.SCHEMA.TABLE\"`"
        }
        "user" | "principal" | "spiffeid" | "identity" => "who asks is the principal: `principal.spiffeId`",
        "ip" | "clientip" | "remoteip" | "sourceaddress" => {
            "did you mean `context.sourceIp`? It may be absent: `context has sourceIp && context.sourceIp.isInRange(ip(\"10.0.0.0/8\"))`"
        }
        "time" | "date" | "timestamp" | "hour" => {
            "the time is `context.now`: `context.now < datetime(\"2026-12-01\")`, `context.now.toTime() >= duration(\"8h\")`"
        }
        _ => return None,
    };
    Some(said.to_owned())
}

fn is_path(base: &str) -> bool {
    !base.is_empty() && base.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
}
