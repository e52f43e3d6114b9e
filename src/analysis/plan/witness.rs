//! Requests that are decided otherwise: both generations are asked before one is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::classes::{PrincipalClass, ResourceClass, Sides};
use super::residual::{Left, Residual, compared};
use super::solver::Query;
use super::{Change, Decided};
use crate::analysis::asked::AskedOf;
use crate::analysis::question::Question;
use crate::identity::SpiffeId;
use crate::mapping::{Context, Operation, Resource, ResourceKind, TagsRead};
use crate::policy::Decision;

/// A class of questions.
#[derive(Debug, Clone, Copy)]
pub(in crate::analysis) struct Cell<'a> {
    pub(in crate::analysis) action: &'a [String],
    pub(in crate::analysis) principal: &'a PrincipalClass,
    pub(in crate::analysis) resource: &'a Arc<ResourceClass>,
}

/// A question that is decided otherwise.
#[derive(Debug)]
pub(in crate::analysis) struct Witness {
    pub(in crate::analysis) id: SpiffeId,
    pub(in crate::analysis) operation: Operation,
    pub(in crate::analysis) facts: Context,
    /// The attributes that it hangs on.
    pub(in crate::analysis) shown: BTreeSet<String>,
    pub(in crate::analysis) old: Decision,
    pub(in crate::analysis) new: Decision,
}

/// The moment that questions are asked at where no condition says another.
const NOON: &str = "2026-01-05T12:00:00Z";

/// Most values that are tried of one attribute.
const MAX_TRIED: usize = 12;
/// Most requests that are tried of one class.
const MAX_COMBINED: usize = 200;

/// Tries the least request, and the values that the conditions themselves speak of.
pub(in crate::analysis) fn without_solver(
    cell: &Cell<'_>,
    sides: Sides<'_>,
    grows: bool,
    granted: &[Residual],
    allowed: &[Residual],
) -> Option<Witness> {
    let both = || granted.iter().chain(allowed);
    let shown = Left::of(both()).context;
    let trying = Trying { cell, sides, grows, shown: &shown };
    contexts(both()).iter().find_map(|context| trying.ask(&cell.principal.id, context))
}

/// The least context, and those with the values that conditions speak of: one of them, then several. A request that is found so need
/// not be asked of a solver.
pub(in crate::analysis) fn contexts<'a>(residuals: impl Iterator<Item = &'a Residual>) -> Vec<Map<String, Json>> {
    let mut tried = vec![Map::new()];
    for (name, values) in &compared(residuals) {
        let values = values.iter().take(MAX_TRIED).filter_map(|value| serde_json::from_str(value).ok());
        let values: Vec<Json> =
            values.filter(|value| can_be(name, value)).map(|value| as_written(name, value)).collect();
        let mut with = Vec::new();
        for context in &tried {
            with.extend(values.iter().map(|value| {
                let mut context = context.clone();
                context.insert(name.clone(), value.clone());
                context
            }));
        }
        tried.extend(with);
        tried.truncate(MAX_COMBINED);
    }
    let outbound = tried.last().cloned().map(|mut context| {
        context.insert("direction".to_owned(), json!("outbound"));
        context
    });
    tried.extend(outbound);
    // What needs least to be said first.
    tried.sort_by_key(Map::len);
    tried
}

/// Whether a request can say so, as the solver is told too ([`ContextAssumed`](super::residual::ContextAssumed)).
fn can_be(name: &str, value: &Json) -> bool {
    match name {
        "direction" => matches!(value.as_str(), Some("inbound" | "outbound")),
        "contentLength" => value.as_i64().is_none_or(|length| length >= 0),
        _ => true,
    }
}

/// Sets are compared by their members.
fn as_written(name: &str, value: Json) -> Json {
    match name {
        "columns" | "base" | "options" | "publication" if !value.is_array() => json!([value]),
        _ => value,
    }
}

/// Makes a request of what the solver says.
pub(in crate::analysis) fn in_model(
    cell: &Cell<'_>,
    sides: Sides<'_>,
    grows: bool,
    query: &Query,
    model: (&Json, &Json),
) -> Option<Witness> {
    let shown = Left::of(query.residuals()).context;
    let (ids, asked) = requests(cell, query, model)?;
    let trying = Trying { cell, sides, grows, shown: &shown };
    ids.iter().find_map(|id| trying.ask(id, &asked))
}

/// Who might ask, and with which context, by what the solver says.
pub(in crate::analysis) fn requests(
    cell: &Cell<'_>,
    query: &Query,
    (context, entities): (&Json, &Json),
) -> Option<(Vec<SpiffeId>, Map<String, Json>)> {
    let left = Left::of(query.residuals());
    let mut asked = Map::new();
    for (name, value) in context.as_object().into_iter().flatten() {
        if !left.whole_context && !left.context.contains(name) {
            continue;
        }
        asked.insert(name.clone(), plain(value, entities)?);
    }
    let principal = entities.get("principal").and_then(Json::as_str).unwrap_or_default();
    Some((cell.principal.candidates(&attributes(principal, entities)), asked))
}

/// The question of a cell in this context.
pub(in crate::analysis) fn posed(cell: &Cell<'_>, context: &Map<String, Json>) -> Option<(Operation, Context)> {
    let mut context = context.clone();
    context.entry("now").or_insert_with(|| json!(NOON));
    let resource = &cell.resource.resource;
    let question = Question::of_action(cell.action.first()?, &resource.to_string()).with_context(context);
    let AskedOf { facts, operations } = question.asked((&TagsRead::All).into()).ok()?;
    let operation = Operation { resource: resource.clone(), ..operations.ok()?.first().clone() };
    Some((operation, facts))
}

struct Trying<'a> {
    cell: &'a Cell<'a>,
    sides: Sides<'a>,
    grows: bool,
    shown: &'a BTreeSet<String>,
}

impl Trying<'_> {
    fn ask(&self, id: &SpiffeId, context: &Map<String, Json>) -> Option<Witness> {
        let (operation, facts) = posed(self.cell, context)?;
        let decide = |survey: &crate::policy::Survey<'_>| {
            let generation = survey.generation();
            generation.decide(&generation.principal(id), &operation, &facts)
        };
        let (old, new) = (decide(self.sides.old), decide(self.sides.new));
        let wanted = if self.grows { (false, true) } else { (true, false) };
        let found = (old.outcome.is_allowed(), new.outcome.is_allowed()) == wanted;
        found.then(|| Witness { id: id.clone(), operation, facts, shown: self.shown.clone(), old, new })
    }
}

impl Witness {
    pub(in crate::analysis) fn change(&self, cell: &Cell<'_>, old: Decided, new: Decided) -> Change {
        let values = self.facts.iter().chain(self.operation.context.iter());
        let shown = values.filter(|(name, _)| self.shown.contains(*name));
        Change {
            actions: cell.action.to_vec(),
            resource_type: self.operation.resource.kind().as_str(),
            request: request(&self.operation),
            principal: self.id.to_string(),
            resource: whole(&self.operation.resource),
            context: shown.map(|(name, value)| (name.to_owned(), value.to_string())).collect(),
            old,
            new,
        }
    }
}

fn whole(resource: &Resource) -> String {
    let wholes: Vec<String> = resource.wholes().map(|id| format!("Table::\"{id}\"")).collect();
    if wholes.is_empty() { resource.to_string() } else { format!("{resource} (a partition of {})", wholes.join(", ")) }
}

/// `GET s3://lake/raw/a`, `POST http://api/orders`, `sql:Select of Table::"…"`.
fn request(operation: &Operation) -> String {
    let action = operation.action.as_str();
    let resource = &operation.resource;
    let (family, name) = action.split_once(':').unwrap_or_default();
    match (family, name) {
        ("http", "Upgrade") => format!("GET http://{} (WebSocket)", resource.id()),
        ("http", method) => format!("{method} http://{}", resource.id()),
        ("s3", "ListBucket") => match resource.kind() {
            ResourceKind::Prefix => {
                let mut parts = resource.id().splitn(3, '/');
                let bucket = [parts.next(), parts.next()].map(Option::unwrap_or_default).join("/");
                format!("GET s3://{bucket}?list-type=2&prefix={}/", parts.next().unwrap_or_default())
            }
            _ => format!("GET s3://{}?list-type=2", resource.id()),
        },
        ("s3", "GetObject") => format!("GET s3://{}", resource.id()),
        ("s3", "PutObject") => format!("PUT s3://{}", resource.id()),
        ("s3", "DeleteObject") => format!("DELETE s3://{}", resource.id()),
        ("s3" | "s3express", _) => format!("{action} s3://{}", resource.id()),
        ("tcp", _) => format!("connect tcp://{}", resource.id()),
        _ => {
            let columns = match operation.context.get("columns") {
                Some(crate::mapping::Value::Strings(columns)) if !columns.is_empty() => {
                    format!(" columns {}", columns.join(", "))
                }
                _ => String::new(),
            };
            format!("{action}{columns} of {}", whole(resource))
        }
    }
}

/// A value of Cedar's JSON form as cases write it.
fn plain(value: &Json, entities: &Json) -> Option<Json> {
    match value {
        Json::Object(fields) => match (fields.get("__extn"), fields.get("__entity")) {
            (Some(extension), _) => extended(extension),
            (None, Some(uid)) => tags(uid, entities),
            (None, None) => {
                let fields = fields.iter().map(|(name, value)| Some((name.clone(), plain(value, entities)?)));
                fields.collect::<Option<Map<_, _>>>().map(Json::Object)
            }
        },
        Json::Array(items) => {
            items.iter().map(|item| plain(item, entities)).collect::<Option<Vec<_>>>().map(Json::Array)
        }
        other => Some(other.clone()),
    }
}

fn extended(extension: &Json) -> Option<Json> {
    let function = extension.get("fn")?.as_str()?;
    match function {
        // A single address; of a network the first one.
        "ip" => Some(json!(extension.get("arg")?.as_str()?.split('/').next()?)),
        "datetime" | "offset" => moment(extension)?.format(&Rfc3339).ok().map(Json::String),
        _ => None,
    }
}

/// `datetime("…")`, or `datetime("…").offset(duration("…ms"))`.
fn moment(extension: &Json) -> Option<OffsetDateTime> {
    if extension.get("fn")? == "datetime" {
        let text = extension.get("arg")?.as_str()?;
        let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
        return OffsetDateTime::parse(&whole, &Rfc3339).ok();
    }
    let arguments = extension.get("args")?;
    let argument = |at: usize| arguments.get(at)?.get("__extn");
    let millis = argument(1)?.get("arg")?.as_str()?.strip_suffix("ms")?.parse().ok()?;
    moment(argument(0)?)?.checked_add(Duration::milliseconds(millis))
}

fn entity<'a>(kind: &str, id: &str, entities: &'a Json) -> Option<&'a Json> {
    let mut all = entities.get("all")?.as_array()?.iter();
    all.find(|entity| {
        let uid = |name: &str| entity.get("uid").and_then(|uid| uid.get("__entity").unwrap_or(uid).get(name)?.as_str());
        uid("type") == Some(kind) && uid("id") == Some(id)
    })
}

/// The headers of a request and the claims of a token are entities with tags.
fn tags(uid: &Json, entities: &Json) -> Option<Json> {
    let (kind, id) = (uid.get("type")?.as_str()?, uid.get("id")?.as_str()?);
    let tags = entity(kind, id, entities).and_then(|entity| entity.get("tags"));
    Some(tags.cloned().unwrap_or_else(|| json!({})))
}

fn attributes(principal: &str, entities: &Json) -> BTreeMap<String, String> {
    let attributes = entity("Workload", principal, entities).and_then(|entity| entity.get("attrs")?.as_object());
    let texts = attributes.into_iter().flatten();
    texts.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}
