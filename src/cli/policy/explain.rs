//! `portcullis policy explain`: why a question is answered as it is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value as Json};

use super::sql::SqlArgs;
use super::{Output, SourceArgs, failed, loaded};
use crate::analysis::{Explanation, Question, Recorded, explain, find_record};
use crate::cli::DENIED;
use crate::config::AuditSinkConfig;
use crate::identity::SpiffeId;
use crate::policy::Outcome;

/// Options of `portcullis policy explain`.
#[derive(Debug, Args)]
#[command(next_line_help = true)]
pub(super) struct ExplainArgs {
    /// A decision in the audit file, as the client was told it
    #[arg(value_name = "DECISION_ID", conflicts_with_all = ["request", "action", "sql"])]
    decision: Option<String>,
    /// Audit files, in place of the configuration's; rotated ones too
    #[arg(long, value_name = "FILE")]
    audit: Vec<PathBuf>,
    /// Who asks: a SPIFFE ID, or Workload::"spiffe://…"
    #[arg(long = "as", visible_alias = "principal", value_name = "SPIFFE_ID")]
    principal: Option<String>,
    /// A request: 'GET s3://ENDPOINT/BUCKET/KEY', 'POST http://ENDPOINT/PATH'
    #[arg(long, value_name = "REQUEST", requires = "principal")]
    request: Option<String>,
    /// A header of the request
    #[arg(long = "header", value_name = "NAME: VALUE", requires = "request")]
    headers: Vec<String>,
    /// The body of the request, for those that are named by it (DeleteObjects)
    #[arg(long, value_name = "FILE", requires = "request")]
    body: Option<PathBuf>,
    /// An action: s3:GetObject, or Action::"s3:GetObject"
    #[arg(long, value_name = "ACTION", requires_all = ["principal", "resource"], conflicts_with = "request")]
    action: Option<String>,
    /// A resource: Object::"lake/raw/a"
    #[arg(long, value_name = "RESOURCE", requires = "action")]
    resource: Option<String>,
    /// The context: a JSON object, or a file with one
    #[arg(long, value_name = "JSON|FILE")]
    context: Option<String>,
    #[command(flatten)]
    sql: SqlArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// Every permit that does not match, not only the nearest
    #[arg(long)]
    all: bool,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command: 0 if the question is allowed, 2 if it is denied.
pub(super) fn run(arguments: &ExplainArgs) -> ExitCode {
    match explained(arguments) {
        Ok((explanation, notes)) => {
            match arguments.output {
                Output::Json => {
                    let mut json = explanation.json();
                    if let Some(json) = json.as_object_mut() {
                        json.insert("notes".to_owned(), notes.into());
                    }
                    println!("{json:#}");
                }
                Output::Text => {
                    print!("{}", explanation.text(arguments.all));
                    notes.iter().for_each(|note| println!("\nnote: {note}"));
                }
            }
            if explanation.outcome == Outcome::Allowed { ExitCode::SUCCESS } else { ExitCode::from(DENIED) }
        }
        Err(code) => code,
    }
}

fn explained(arguments: &ExplainArgs) -> Result<(Explanation, Vec<String>), ExitCode> {
    let asked = match &arguments.decision {
        Some(id) => {
            Asked::Recorded(find_record(&audit_files(arguments)?, id).map_err(|cause| failed(&cause.to_string()))?)
        }
        None => written(arguments).map_err(|cause| failed(&cause))?,
    };
    let source = arguments.source.source()?;
    let policies = loaded(&source)?;
    let (principal, questions, notes) = match asked {
        Asked::Written(principal, question) => {
            let config = arguments.source.config()?;
            let listeners = config.as_ref().map(|config| config.listeners.as_slice()).unwrap_or_default();
            (principal, vec![question.of_listeners(listeners)], Vec::new())
        }
        Asked::Sql(principal, text, context) => {
            let session = arguments.sql.session(arguments.source.config()?.as_ref()).map_err(|cause| failed(&cause))?;
            (principal, vec![Question::of_sql(&text, session).with_context(context)], Vec::new())
        }
        Asked::Recorded(recorded) => {
            let notes = notes(&recorded, policies.digest(), &source.directory);
            (recorded.principal, recorded.questions, notes)
        }
    };
    let explained = questions.iter().map(|question| explain(&policies, &principal, question));
    let explained = explained.collect::<Result<Vec<_>, _>>().map_err(|cause| failed(&cause))?;
    Ok((Explanation::joined(explained), notes))
}

enum Asked {
    Recorded(Recorded),
    Written(SpiffeId, Box<Question>),
    Sql(SpiffeId, String, Map<String, Json>),
}

fn audit_files(arguments: &ExplainArgs) -> Result<Vec<PathBuf>, ExitCode> {
    if !arguments.audit.is_empty() {
        return Ok(arguments.audit.clone());
    }
    match arguments.source.config()?.map(|config| config.audit.sink) {
        Some(AuditSinkConfig::File(path)) => Ok(vec![path]),
        Some(AuditSinkConfig::Stdout) => {
            Err(failed("records go to standard output here: give a file with `--audit FILE`"))
        }
        None => Err(failed("where is the record? give the audit file with `--audit FILE`, or `--config FILE`")),
    }
}

/// The question that the flags ask.
fn written(arguments: &ExplainArgs) -> Result<Asked, String> {
    let principal = arguments.principal.as_deref().ok_or(
        "what is to be explained? give a DECISION_ID, or `--as SPIFFE_ID` with `--request`, `--sql`, or `--action` and `--resource`",
    )?;
    let id = principal.strip_prefix("Workload::\"").and_then(|id| id.strip_suffix('"')).unwrap_or(principal);
    let id = SpiffeId::parse(id).map_err(|cause| format!("`--as {principal}`: {cause}"))?;
    let context = arguments.context.as_deref().map(context).transpose()?.unwrap_or_default();
    if let Some(text) = &arguments.sql.sql {
        return Ok(Asked::Sql(id, text.clone(), context));
    }
    let mut question = match (&arguments.request, &arguments.action, &arguments.resource) {
        (Some(request), ..) => Question::of_request(request),
        (None, Some(action), Some(resource)) => Question::of_action(action, resource),
        _ => return Err("what is asked? give `--request`, `--sql`, or `--action` and `--resource`".to_owned()),
    };
    for header in &arguments.headers {
        let (name, value) =
            header.split_once(':').ok_or_else(|| format!("`--header {header}`: write `NAME: VALUE`"))?;
        question = question.with_header(name.trim(), value.trim());
    }
    if let Some(path) = &arguments.body {
        let body = std::fs::read_to_string(path).map_err(|cause| format!("`{}`: {cause}", path.display()))?;
        question = question.with_body(body);
    }
    Ok(Asked::Written(id, Box::new(question.with_context(context))))
}

fn context(text: &str) -> Result<Map<String, Json>, String> {
    let content = if text.trim_start().starts_with('{') {
        text.to_owned()
    } else {
        std::fs::read_to_string(text).map_err(|cause| format!("`--context {text}`: {cause}"))?
    };
    match serde_json::from_str(&content) {
        Ok(Json::Object(context)) => Ok(context),
        Ok(_) => Err("`--context` is not a JSON object".to_owned()),
        Err(cause) => Err(format!("`--context` is not JSON: {cause}")),
    }
}

/// What has to be known to take the explanation for what it is.
fn notes(recorded: &Recorded, digest: &str, directory: &Path) -> Vec<String> {
    let mut notes = vec![format!("the record of {} says `{}`", recorded.time, recorded.outcome)];
    if recorded.policy_digest.as_deref().is_some_and(|then| then != digest) {
        notes.push(format!(
            "other policies decided then ({}) than are in `{}` now ({digest})",
            recorded.policy_digest.as_deref().unwrap_or_default(),
            directory.display()
        ));
    }
    if recorded.has_redacted {
        notes.push(
            "the record hides values of headers, so a policy that reads them may answer otherwise here".to_owned(),
        );
    }
    notes
}
