//! entities.json and entities/*.json: which workloads are in which stage, what is in which group, and tags.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};
use serde_json::{Map, Value, json};

use super::advice::{self, SHIPPED_TYPES};
use super::ids;
use super::problem::{PolicyProblem, Problems, SourceFile};
use crate::config::nearest;
use crate::identity::{SpiffeId, UniqueJson};

/// What entities.json says, complete: attributes computed, ancestors closed.
#[derive(Debug, Default)]
pub(in crate::policy) struct StaticEntities {
    by_uid: HashMap<EntityUid, StaticEntity>,
    populated: HashSet<EntityUid>,
    /// Where each entity stands.
    places: Vec<(EntityUid, Place)>,
    /// Something of the files could not be taken: what is in what is not known.
    is_partial: bool,
}

/// One entity of the file.
#[derive(Debug, Clone)]
pub(in crate::policy) struct StaticEntity {
    /// With all its ancestors as parents.
    pub(in crate::policy) entity: Entity,
    /// Everything it is in, by the file and by its id.
    pub(in crate::policy) ancestors: Vec<EntityUid>,
    /// Its tags, where its type is a shipped one.
    pub(in crate::policy) tags: BTreeMap<String, Vec<String>>,
}

impl StaticEntities {
    /// Reads the files as one list. What is wrong with it is added to `problems`.
    pub(in crate::policy) fn parse(files: &[Arc<SourceFile>], schema: &Schema, problems: &mut Problems) -> Self {
        let mut entries = HashMap::new();
        let mut found = Problems::default();
        for file in files {
            read(file, schema, &mut entries, &mut found);
        }
        let mut entities = Self::close(&entries, &mut found);
        for problem in found.into_all() {
            entities.is_partial = true;
            problems.push(problem);
        }
        entities.places = entries.into_iter().map(|(uid, entry)| (uid, entry.place)).collect();
        entities
    }

    /// Every entity of the files, with a problem to be made of it.
    pub(super) fn places(&self) -> impl Iterator<Item = (&EntityUid, &Place)> {
        self.places.iter().map(|(uid, place)| (uid, place))
    }

    fn close(entries: &HashMap<EntityUid, Entry>, problems: &mut Problems) -> Self {
        let mut by_uid = HashMap::new();
        let mut populated = HashSet::new();
        for (uid, entry) in entries {
            let ancestors = ancestors(uid, entries);
            if ancestors.contains(uid) {
                problems.push(entry.place.error(format!("`{uid}` is in itself")));
                continue;
            }
            populated.extend(ancestors.iter().cloned());
            match entry.entity(&ancestors) {
                Ok(entity) => {
                    by_uid.insert(uid.clone(), StaticEntity { entity, ancestors, tags: entry.tags.clone() });
                }
                Err(cause) => problems.push(entry.place.error(cause)),
            }
        }
        Self { by_uid, populated, places: Vec::new(), is_partial: false }
    }

    /// The entity that a policy names, with all that is known of it. One of a shipped type needs no entry in the file: what follows
    /// from its id holds all the same, and so does what the file says of entities above it.
    pub(in crate::policy) fn complete(&self, uid: &EntityUid) -> Option<Entity> {
        let kind = uid.type_name().to_string();
        if !SHIPPED_TYPES.contains(&kind.as_str()) {
            return self.by_uid.get(uid).map(|known| known.entity.clone());
        }
        let above = computed_parents(uid);
        let mut parents: HashSet<EntityUid> = above.iter().cloned().collect();
        let mut tags: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for known in std::iter::once(uid).chain(&above).filter_map(|uid| self.by_uid.get(uid)) {
            parents.extend(known.ancestors.iter().cloned());
            // A workload has the tags of the IDs above it, not of its trust domain.
            if kind != "Workload" || known.entity.uid().type_name() == uid.type_name() {
                for (name, values) in &known.tags {
                    tags.entry(name.clone()).or_insert_with(|| values.clone());
                }
            }
        }
        Entity::new_with_tags(uid.clone(), attributes(uid), parents, tag_expressions(&tags)).ok()
    }

    pub(in crate::policy) fn iter(&self) -> impl Iterator<Item = (&EntityUid, &StaticEntity)> {
        self.by_uid.iter()
    }

    /// Whether nothing is in `uid`, for certain: where a file is wrong, that is what there is to be said.
    pub(super) fn is_empty(&self, uid: &EntityUid) -> bool {
        !self.is_partial && !self.populated.contains(uid)
    }

    /// Whether a file is wrong.
    pub(super) const fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// The names of this type that something is in.
    pub(super) fn names_with_members(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.populated.iter().filter(move |uid| uid.type_name().basename() == kind).map(|uid| uid.id().unescaped())
    }
}

/// Reads one file. An entity that another file has, or this one before, is said with both places.
fn read(file: &Arc<SourceFile>, schema: &Schema, entries: &mut HashMap<EntityUid, Entry>, problems: &mut Problems) {
    let items = match serde_json::from_str::<Vec<UniqueJson>>(file.text()) {
        Ok(items) => items,
        Err(cause) => {
            let at = offset(file.text(), cause.line(), cause.column());
            let cause = cause.to_string();
            // The place is shown.
            let cause = cause.rsplit_once(" at line ").map_or(cause.as_str(), |(cause, _)| cause);
            let message = match cause.starts_with("key ") {
                true => format!("{cause} in one entity"),
                false => format!("entities are not a JSON list: {cause}"),
            };
            problems.push(PolicyProblem::error(file, Some(at..at), message).help(FORM));
            return;
        }
    };
    let spans = element_spans(file.text()).into_iter().map(Some).chain(std::iter::repeat(None));
    for (UniqueJson(item), span) in items.into_iter().zip(spans) {
        let place = Place { file: Arc::clone(file), span };
        match Entry::read(item, &place, schema) {
            Ok(entry) => match entries.get(&entry.uid) {
                Some(first) => {
                    let problem = place.error(format!("`{}` is there twice", entry.uid));
                    let first = &first.place;
                    problems.push(problem.help(format!("the first is at {first}: write both as one, or remove one")));
                }
                None => _ = entries.insert(entry.uid.clone(), entry),
            },
            Err(wrong) => problems.push(place.error(wrong.message).some_help(wrong.help)),
        }
    }
}

/// Where an entity stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    file: Arc<SourceFile>,
    span: Option<Range<usize>>,
}

impl Place {
    pub(super) fn error(&self, message: String) -> PolicyProblem {
        PolicyProblem::error(&self.file, self.span.clone(), message)
    }

    pub(super) fn warning(&self, message: String) -> PolicyProblem {
        PolicyProblem::warning(&self.file, self.span.clone(), message)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.span.as_ref().map_or(0, |span| span.start);
        write!(f, "{}:{}", self.file.name(), self.file.position(at).0)
    }
}

const FORM: &str = r#"each entity is {"uid": {"type": "Workload", "id": "spiffe://…"}, "parents": [{"type": "Stage", "id": "transform"}], "tags": {"team": ["data"]}}"#;

/// Everything above `uid`: by the file and by its id. It holds `uid` itself only where the file has a circle.
fn ancestors(uid: &EntityUid, entries: &HashMap<EntityUid, Entry>) -> Vec<EntityUid> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![uid.clone()];
    while let Some(next) = open.pop() {
        let written = entries.get(&next).map(|entry| entry.parents.clone()).unwrap_or_default();
        for parent in computed_parents(&next).into_iter().chain(written) {
            if seen.insert(parent.clone()) {
                found.push(parent.clone());
                open.push(parent);
            }
        }
    }
    found
}

fn computed_parents(uid: &EntityUid) -> Vec<EntityUid> {
    ids::ancestors_above(&uid.type_name().to_string(), uid.id().unescaped())
        .into_iter()
        .filter_map(|(kind, id)| Some(EntityUid::from_type_name_and_id(kind.parse().ok()?, EntityId::new(id))))
        .collect()
}

/// The attributes that portcullis gives an entity: only workloads have some.
fn attributes(uid: &EntityUid) -> Vec<(String, RestrictedExpression)> {
    match SpiffeId::parse(uid.id().unescaped()) {
        Ok(id) if uid.type_name().to_string() == "Workload" => workload_attributes(&id),
        _ => Vec::new(),
    }
}

/// The attributes of a workload.
pub(in crate::policy) fn workload_attributes(id: &SpiffeId) -> Vec<(String, RestrictedExpression)> {
    let mut attributes = vec![
        ("spiffeId", id.as_str().to_owned()),
        ("trustDomain", id.trust_domain().to_owned()),
        ("path", id.path().to_owned()),
    ];
    let segments: Vec<_> = id.path().split('/').skip(1).collect();
    if let ["ns", namespace, "sa", account] = segments.as_slice() {
        attributes.push(("namespace", (*namespace).to_owned()));
        attributes.push(("serviceAccount", (*account).to_owned()));
    }
    attributes.into_iter().map(|(name, value)| (name.to_owned(), RestrictedExpression::new_string(value))).collect()
}

struct Wrong {
    message: String,
    help: Option<String>,
}

impl Wrong {
    fn new(message: impl Into<String>, help: &str) -> Self {
        Self { message: message.into(), help: Some(help.to_owned()) }
    }
}

/// One element of a file that was checked by itself.
struct Entry {
    uid: EntityUid,
    place: Place,
    parents: Vec<EntityUid>,
    tags: BTreeMap<String, Vec<String>>,
    /// The entity as Cedar read it, where its type is the operator's own and Cedar knows what is in it.
    own: Option<Value>,
}

impl Entry {
    fn read(item: Value, place: &Place, schema: &Schema) -> Result<Self, Wrong> {
        let place = place.clone();
        let Value::Object(mut fields) = item else { return Err(Wrong::new("entity is not an object", FORM)) };
        only_keys(&fields, &["uid", "parents", "tags", "attrs"], "entity")?;
        let uid = uid(fields.get("uid").ok_or_else(|| Wrong::new("entity has no `uid`", FORM))?)?;
        let parents = match fields.get("parents") {
            None => Vec::new(),
            Some(Value::Array(parents)) => parents.iter().map(self::uid).collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err(Wrong::new(format!("parents of `{uid}` are not a list"), FORM)),
        };
        let kind = uid.type_name().to_string();
        if !SHIPPED_TYPES.contains(&kind.as_str()) {
            if ["Action", "Headers", "Claims"].contains(&kind.as_str()) {
                return Err(Wrong::new(
                    format!("`{uid}` is of type {kind}"),
                    "entities.json holds principals, resources, stages and groups",
                ));
            }
            is_type(uid.type_name(), schema)?;
            fields.entry("attrs").or_insert_with(|| json!({}));
            fields.entry("parents").or_insert_with(|| json!([]));
            let own = Value::Object(fields);
            Entity::from_json_value(own.clone(), Some(schema)).map_err(|cause| from_cedar(&uid, &cause))?;
            return Ok(Self { uid, place, parents, tags: BTreeMap::new(), own: Some(own) });
        }
        if fields.get("attrs").is_some_and(|attrs| attrs.as_object().is_none_or(|attrs| !attrs.is_empty())) {
            return Err(Wrong::new(
                format!("`{uid}` has `attrs`"),
                "portcullis computes the attributes; what you want to add goes into `tags`: {\"team\": [\"data\"]}",
            ));
        }
        ids::check(&kind, uid.id().unescaped()).map_err(|bad| Wrong { message: bad.message, help: Some(bad.help) })?;
        for parent in &parents {
            is_type(parent.type_name(), schema)?;
            let above = parent.type_name().to_string();
            if !matches!(above.as_str(), "Stage" | "Group") && SHIPPED_TYPES.contains(&above.as_str()) {
                return Err(Wrong::new(
                    format!("`{uid}` has the parent `{parent}`"),
                    "portcullis computes what an id is in; the file only puts it in a Stage or Group",
                ));
            }
        }
        let tags = tags(&uid, fields.get("tags"))?;
        let entry = Self { uid, place, parents, tags, own: None };
        // Cedar checks what the schema says about parents.
        let whole = entry.entity(&entry.parents).map_err(|cause| Wrong { message: cause, help: None })?;
        let whole = whole.to_json_value().map_err(|cause| from_cedar(&entry.uid, &cause))?;
        Entity::from_json_value(whole, Some(schema)).map_err(|cause| from_cedar(&entry.uid, &cause))?;
        Ok(entry)
    }

    fn entity(&self, parents: &[EntityUid]) -> Result<Entity, String> {
        if let Some(Value::Object(own)) = &self.own {
            let mut own: Map<String, Value> = own.clone();
            own.insert(
                "parents".to_owned(),
                parents.iter().map(|p| json!({"type": p.type_name().to_string(), "id": p.id().unescaped()})).collect(),
            );
            return Entity::from_json_value(Value::Object(own), None).map_err(|cause| cause.to_string());
        }
        Entity::new_with_tags(
            self.uid.clone(),
            attributes(&self.uid),
            parents.iter().cloned(),
            tag_expressions(&self.tags),
        )
        .map_err(|cause| cause.to_string())
    }
}

/// Tags as Cedar takes them.
pub(in crate::policy) fn tag_expressions(
    tags: &BTreeMap<String, Vec<String>>,
) -> impl Iterator<Item = (String, RestrictedExpression)> {
    tags.iter().map(|(name, values)| {
        (name.clone(), RestrictedExpression::new_set(values.iter().cloned().map(RestrictedExpression::new_string)))
    })
}

fn uid(value: &Value) -> Result<EntityUid, Wrong> {
    // `{"__entity": {…}}` is Cedar's own way to write it.
    let value = match value.get("__entity") {
        Some(inner) => {
            value.as_object().map_or(Ok(()), |fields| only_keys(fields, &["__entity"], "`uid`"))?;
            inner
        }
        None => value,
    };
    let field = |name| value.get(name).and_then(Value::as_str);
    let (Some(kind), Some(id)) = (field("type"), field("id")) else {
        return Err(Wrong::new(format!("`{value}` is not an entity"), FORM));
    };
    value.as_object().map_or(Ok(()), |fields| only_keys(fields, &["type", "id"], "`uid`"))?;
    let kind: EntityTypeName = kind.parse().map_err(|_| Wrong::new(format!("`{kind}` is not an entity type"), FORM))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn is_type(kind: &EntityTypeName, schema: &Schema) -> Result<(), Wrong> {
    match schema.entity_types().any(|known| known == kind) {
        true => Ok(()),
        false => Err(Wrong::new(format!("there is no entity type `{kind}`"), &advice::unknown_type(&kind.to_string()))),
    }
}

/// Refuses keys that would be ignored.
fn only_keys(fields: &Map<String, Value>, known: &[&str], of: &str) -> Result<(), Wrong> {
    let Some(unknown) = fields.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let help = match nearest(unknown, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the keys here are {}; {FORM}", known.join(", ")),
    };
    Err(Wrong::new(format!("{of} has the unknown key `{unknown}`"), &help))
}

fn tags(uid: &EntityUid, written: Option<&Value>) -> Result<BTreeMap<String, Vec<String>>, Wrong> {
    let wrong =
        || Wrong::new(format!("tags of `{uid}` are not lists of strings"), "write {\"tags\": {\"team\": [\"data\"]}}");
    let mut tags = BTreeMap::new();
    let Some(written) = written else { return Ok(tags) };
    for (name, values) in written.as_object().ok_or_else(wrong)? {
        let values =
            values.as_array().ok_or_else(wrong)?.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(wrong));
        tags.insert(name.clone(), values.collect::<Result<_, _>>()?);
    }
    Ok(tags)
}

fn from_cedar(uid: &EntityUid, cause: &(dyn std::error::Error + 'static)) -> Wrong {
    let mut message = format!("`{uid}`: {cause}");
    let mut source = cause.source();
    while let Some(next) = source {
        message.push_str(&format!(": {next}"));
        source = next.source();
    }
    Wrong { message, help: None }
}

/// The byte at a line and column as serde_json counts them.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

/// Where the elements of a JSON list stand. `text` is known to be one.
fn element_spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let (mut depth, mut start, mut in_string, mut escaped) = (0_usize, None, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth == 2 {
                    start = Some(at);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 1
                    && let Some(start) = start.take()
                {
                    spans.push(start..at + 1);
                }
            }
            _ => {}
        }
    }
    spans
}
