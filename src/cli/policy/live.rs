//! `portcullis policy plan --live`: what the candidates of a running sidecar would have decided otherwise.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{GREW, NOT_PROVED, Output, failed};
use crate::admin::{ProbeTarget, read_from};
use crate::analysis::counted;
use crate::cli::{FAILURE, colour};
use crate::config::{Config, Overrides};

/// How long the sidecar may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Without which its answer says nothing.
const FIELDS: [&str; 3] = ["candidates", "flips", "beyond"];

/// Runs the command: 0 if nobody would have been allowed more, 2 if somebody would, 4 if it is not known.
pub(super) fn run(socket: Option<&Path>, config: Option<&Path>, output: Output) -> ExitCode {
    let shadow = match asked(socket, config) {
        Ok(shadow) => shadow,
        Err(code) => return code,
    };
    match output {
        Output::Json => println!("{:#}", with_open(&shadow)),
        Output::Text => print!("{}", text(&shadow)),
    }
    ExitCode::from(code(&shadow))
}

fn asked(socket: Option<&Path>, config: Option<&Path>) -> Result<Json, ExitCode> {
    let socket = match (socket, config) {
        (Some(socket), _) => socket.to_owned(),
        (None, Some(file)) => {
            let config = Config::load(file, &Overrides::default()).map_err(|errors| {
                eprint!("{}", errors.render(colour()));
                ExitCode::from(FAILURE)
            })?;
            config.admin.socket.ok_or_else(|| failed("the configuration names no `admin.socket`"))?
        }
        (None, None) => return Err(failed("which sidecar? give `--socket PATH` or `--config FILE`")),
    };
    let body =
        read_from(&ProbeTarget::Unix(socket), "/shadow", PATIENCE).map_err(|error| failed(&error.to_string()))?;
    serde_json::from_str(&body).map_err(|error| failed(&format!("the sidecar's answer is not JSON: {error}")))
}

fn code(shadow: &Json) -> u8 {
    let grows = flips(shadow).any(|flip| flip.get("would_be").and_then(Json::as_str) == Some("allowed"));
    match (grows, left_open(shadow).is_empty()) {
        (true, _) => GREW,
        (false, true) => 0,
        (false, false) => NOT_PROVED,
    }
}

/// Why it is not known that nobody would have been allowed more.
fn left_open(shadow: &Json) -> Vec<String> {
    if let Some(missing) = FIELDS.into_iter().find(|name| shadow.get(name).is_none()) {
        return vec![format!("the sidecar's answer has no `{missing}`: is it of another version?")];
    }
    let mut open = Vec::new();
    let candidates = shadow.get("candidates").and_then(Json::as_array);
    if let Some(fault) = shadow.get("shadow_error").and_then(Json::as_str) {
        open.push(format!("the candidate does not load: {fault}"));
    } else if candidates.is_none_or(Vec::is_empty) {
        open.push(
            "no candidate is tried: there is no `policy.shadow`, and no policy has `@mode(\"shadow\")`".to_owned(),
        );
    }
    match shadow.get("beyond").and_then(Json::as_u64) {
        Some(0) => {}
        beyond => open.push(format!(
            "{} decided otherwise in none of the groups, which are too many to be told",
            counted(beyond.unwrap_or_default(), "operation")
        )),
    }
    open
}

fn with_open(shadow: &Json) -> Json {
    let mut json = shadow.clone();
    if let Some(fields) = json.as_object_mut() {
        fields.insert("not_proved".to_owned(), json!(left_open(shadow)));
    }
    json
}

fn flips(shadow: &Json) -> impl Iterator<Item = &Json> {
    shadow.get("flips").and_then(Json::as_array).into_iter().flatten()
}

fn text(shadow: &Json) -> String {
    let said = |json: &Json, name: &str| json.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let mut text = String::new();
    let (grows, shrinks): (Vec<_>, Vec<_>) = flips(shadow).partition(|flip| said(flip, "would_be") == "allowed");
    for (title, group) in [("would become allowed", &grows), ("would no longer be allowed", &shrinks)] {
        if group.is_empty() {
            continue;
        }
        text.push_str(&format!("{title}\n"));
        for flip in group {
            let by = |name: &str| {
                let policies = flip.get(name).and_then(Json::as_array).into_iter().flatten();
                let policies: Vec<_> = policies.filter_map(Json::as_str).collect();
                if policies.is_empty() { String::new() } else { format!(" by {}", policies.join(", ")) }
            };
            let count = flip.get("count").and_then(Json::as_u64).unwrap_or_default();
            text.push_str(&format!(
                "  {count:>8}  {} {} {}\n            {} {}, now {}{}, then {}{}; last {} ({})\n",
                said(flip, "who"),
                said(flip, "action"),
                said(flip, "resource"),
                said(flip, "direction"),
                said(flip, "listener"),
                said(flip, "outcome"),
                by("policies"),
                said(flip, "would_be"),
                by("would_be_by"),
                said(flip, "last"),
                said(flip, "example"),
            ));
        }
    }
    let open = left_open(shadow);
    if text.is_empty() && open.is_empty() {
        text.push_str("no request would have been decided otherwise\n");
    }
    text.extend(open.iter().map(|why| format!("not proved: {why}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shadow(field: &str, value: Json) -> Json {
        let mut shadow = json!({"candidates": ["directory"], "shadow_error": null, "flips": [], "beyond": 0});
        shadow[field] = value;
        shadow
    }

    #[test]
    fn what_no_group_tells_of_is_not_known_not_to_grow() {
        let flip = |would_be: &str| json!([{"would_be": would_be, "outcome": "allowed", "count": 1}]);
        for (shadow, expected, said) in [
            (shadow("beyond", json!(0)), 0, "no request would have been decided otherwise"),
            (shadow("flips", flip("forbidden")), 0, "would no longer be allowed"),
            (shadow("flips", flip("allowed")), GREW, "would become allowed"),
            (
                shadow("beyond", json!(3)),
                NOT_PROVED,
                "not proved: 3 operations decided otherwise in none of the groups",
            ),
            (
                shadow("shadow_error", json!("c.cedar:1")),
                NOT_PROVED,
                "not proved: the candidate does not load: c.cedar:1",
            ),
            (shadow("candidates", json!([])), NOT_PROVED, "not proved: no candidate is tried"),
            // As a sidecar of before answers, or another program.
            (json!({"flips": [], "beyond": 0}), NOT_PROVED, "not proved: the sidecar's answer has no `candidates`"),
            (json!({}), NOT_PROVED, "not proved: the sidecar's answer has no `candidates`"),
        ] {
            assert_eq!(code(&shadow), expected, "{shadow:#}");
            assert!(text(&shadow).contains(said), "{}", text(&shadow));
        }
    }
}
