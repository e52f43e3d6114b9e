//! Cedar's own answer.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;
use std::time::{Duration, UNIX_EPOCH};

use cedar_policy::{
    Authorizer, Context as CedarContext, Decision as CedarDecision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression as Expression, Schema,
};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::random::{Asked, Said, universe};
use crate::mapping::Value;
use crate::policy::decision::Outcome;

const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// Cedar's own answer: every policy, every entity, nothing flattened.
pub(super) struct Oracle {
    pub(super) policies: PolicySet,
    said: HashMap<String, Said>,
    schema: Schema,
    /// Actions, and every entity that a policy can name.
    named: Entities,
}

impl Oracle {
    pub(super) fn new(
        policies: PolicySet,
        said: HashMap<String, Said>,
        teams: &[(&str, Json)],
        schema: &Schema,
    ) -> Self {
        let mut oracle = Self { policies, said, schema: schema.clone(), named: Entities::empty() };
        let named: Vec<Entity> = universe().map(|uid| oracle.known(&uid, Vec::new())).collect();
        let teams = teams.iter().map(|(name, attributes)| {
            let team = json!({"uid": {"type": "Team", "id": name}, "attrs": attributes, "parents": []});
            Entity::from_json_value(team, Some(schema)).expect("a team")
        });
        let actions = schema.action_entities().expect("actions");
        oracle.named = actions.add_entities(named.into_iter().chain(teams), Some(schema)).expect("they conform");
        oracle
    }

    /// An entity with everything that entities.json and its id say of it.
    fn known(&self, uid: &str, besides: Vec<String>) -> Entity {
        let said = self.said.get(uid).map(|said| said.parents.clone()).unwrap_or_default();
        let tags = self.tags(uid, &besides);
        Self::entity(uid, said.into_iter().chain(Self::above(uid)).chain(besides).collect(), &tags)
    }

    fn entity(uid: &str, parents: Vec<String>, tags: &BTreeMap<String, Vec<String>>) -> Entity {
        let uid = EntityUid::from_str(uid).expect("uid");
        let mut attributes = Vec::new();
        if uid.type_name().basename() == "Workload" {
            let id = uid.id().unescaped();
            let (domain, path) = id.trim_start_matches("spiffe://").split_once('/').expect("path");
            attributes.extend([
                ("spiffeId", id.to_owned()),
                ("trustDomain", domain.to_owned()),
                ("path", format!("/{path}")),
            ]);
            if let ["ns", namespace, "sa", account] = path.split('/').collect::<Vec<_>>()[..] {
                attributes.extend([("namespace", namespace.to_owned()), ("serviceAccount", account.to_owned())]);
            }
        }
        let set = |values: &Vec<String>| Expression::new_set(values.iter().cloned().map(Expression::new_string));
        Entity::new_with_tags(
            uid,
            attributes.into_iter().map(|(name, value)| (name.to_owned(), Expression::new_string(value))),
            parents.iter().map(|uid| EntityUid::from_str(uid).expect("uid")),
            tags.iter().map(|(name, values)| (name.clone(), set(values))),
        )
        .expect("entity")
    }

    /// What an id is in by itself, said anew: each prefix that ends before a slash.
    fn above(uid: &str) -> Vec<String> {
        let (kind, id) = uid.trim_end_matches('"').split_once("::\"").expect("uid");
        let cuts = |least: usize| {
            id.rmatch_indices('/')
                .filter_map(|(at, _)| id.get(..at))
                .filter(move |cut| cut.matches('/').count() >= least)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut above = Vec::new();
        match kind {
            "Workload" => {
                above.extend(cuts(3).into_iter().map(|cut| format!("Workload::\"{cut}\"")));
                above.push(format!("TrustDomain::\"{}\"", id.split('/').nth(2).expect("domain")));
            }
            "Object" | "Prefix" => {
                above.extend(cuts(2).into_iter().map(|cut| format!("Prefix::\"{cut}\"")));
                above.extend(cuts(1).pop().map(|cut| format!("Bucket::\"{cut}\"")));
            }
            "Schema" => above.extend(id.split_once('.').map(|(database, _)| format!("Database::\"{database}\""))),
            "Table" => {
                let (schema, _) = id.rsplit_once('.').expect("a table's id");
                above.push(format!("Schema::\"{schema}\""));
                above.extend(schema.split_once('.').map(|(database, _)| format!("Database::\"{database}\"")));
            }
            "HttpPath" => above.extend(cuts(1).into_iter().map(|cut| format!("HttpPath::\"{cut}\""))),
            _ => {}
        }
        if matches!(kind, "Object" | "Prefix" | "HttpPath" | "Bucket" | "Database" | "Schema" | "Table") {
            above.push(format!("Endpoint::\"{}\"", id.split('/').next().expect("endpoint")));
        }
        above
    }

    /// The tags of an entity: its own, then those of the nearest above it.
    fn tags(&self, uid: &str, besides: &[String]) -> BTreeMap<String, Vec<String>> {
        let mut tags = BTreeMap::new();
        let kind = uid.split("::").next();
        // A partition: its own schema is nearer than those of the tables that it is a part of.
        let is_schema = |uid: &String| uid.starts_with("Schema");
        let (other_schemas, tables): (Vec<_>, Vec<_>) = besides.iter().cloned().partition(is_schema);
        let (own_schema, rest): (Vec<_>, Vec<_>) = Self::above(uid).into_iter().partition(is_schema);
        let nearest_first = [vec![uid.to_owned()], tables, own_schema, other_schemas, rest].concat();
        for above in nearest_first {
            if kind == Some("Workload") && !above.starts_with("Workload") {
                continue;
            }
            for (name, values) in self.said.get(&above).map(|said| said.tags.clone()).unwrap_or_default() {
                tags.entry(name).or_insert(values);
            }
        }
        tags
    }

    /// A value as Cedar has it; what are entities is added to `all`.
    pub(super) fn value(value: &Value, all: &mut HashMap<String, Entity>) -> Expression {
        let mut tagged = |uid: &str, fields: &[(Box<str>, Vec<Box<str>>)]| {
            let tags =
                fields.iter().map(|(n, v)| (n.to_string(), v.iter().map(ToString::to_string).collect())).collect();
            all.insert(uid.to_owned(), Self::entity(uid, Vec::new(), &tags));
            Expression::new_entity_uid(uid.parse().expect("uid"))
        };
        match value {
            Value::Bool(value) => Expression::new_bool(*value),
            Value::Long(value) => Expression::new_long(*value),
            Value::String(value) => Expression::new_string(value.to_string()),
            Value::Strings(values) => {
                Expression::new_set(values.iter().map(|value| Expression::new_string(value.to_string())))
            }
            Value::Ip(address) => Expression::new_ip(address.to_canonical().to_string()),
            Value::Datetime(1_700_000_000_123) => Expression::new_datetime("2023-11-14T22:13:20.123Z"),
            Value::Datetime(0 | 1) => Expression::new_datetime("1970-01-01"),
            Value::Datetime(millis) => {
                let since = Duration::from_millis((*millis).try_into().expect("after 1970"));
                let at: OffsetDateTime = (UNIX_EPOCH + since).into();
                Expression::new_datetime(format!("{}.{:03}Z", at.format(&SECONDS).expect("a time"), at.millisecond()))
            }
            Value::Record(fields) => {
                let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), Self::value(value, all)));
                Expression::new_record(fields.collect::<Vec<_>>()).expect("record")
            }
            Value::Headers(fields) => tagged("Headers::\"h\"", fields),
            Value::Claims(fields) => tagged("Claims::\"c\"", fields),
        }
    }

    pub(super) fn decide(&self, asked: &Asked) -> (Outcome, Vec<String>) {
        let workload = format!("Workload::\"{}\"", asked.workload);
        let resource = asked.operation.resource.to_string();
        // A partition is in the tables that it is a part of, and has what tags these and their schemas have.
        let mut besides: Vec<String> = asked.operation.resource.wholes().map(|id| format!("Table::\"{id}\"")).collect();
        let schemas: Vec<String> =
            besides.iter().flat_map(|whole| Self::above(whole)).filter(|uid| uid.starts_with("Schema")).collect();
        besides.extend(schemas);
        let mut all: HashMap<String, Entity> = HashMap::new();
        let about =
            [&workload, &resource].into_iter().flat_map(|uid| std::iter::once(uid.clone()).chain(Self::above(uid)));
        for uid in about {
            let besides = if uid == resource { besides.clone() } else { Vec::new() };
            all.insert(uid.clone(), self.known(&uid, besides));
        }
        let mut context = Vec::new();
        let mut headers = !matches!(asked.operation.action.as_str(), "tcp:Connect" | "sql:Select" | "sql:Insert");
        for (name, value) in asked.facts.iter().chain(asked.operation.context.iter()) {
            headers &= !matches!(value, Value::Headers(_));
            context.push((name.to_owned(), Self::value(value, &mut all)));
        }
        if headers {
            context.push(("headers".to_owned(), Expression::new_entity_uid("Headers::\"none\"".parse().expect("uid"))));
        }
        let uid = |text: &str| EntityUid::from_str(text).expect("uid");
        let request = Request::new(
            uid(&workload),
            uid(&format!("Action::\"{}\"", asked.operation.action)),
            uid(&resource),
            CedarContext::from_pairs(context).expect("context"),
            Some(&self.schema),
        );
        let entities = self
            .named
            .clone()
            .upsert_entities(all.into_values(), Some(&self.schema))
            .expect("entities conform to the schema");
        let response = Authorizer::new().is_authorized(&request.expect("valid request"), &self.policies, &entities);
        let errors: Vec<String> = response
            .diagnostics()
            .errors()
            .map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(cause) => cause.policy_id().to_string(),
            })
            .collect();
        let reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        match (response.decision(), errors.is_empty(), reasons.is_empty()) {
            (_, false, _) => (Outcome::Error, errors),
            (CedarDecision::Allow, ..) => (Outcome::Allowed, reasons),
            (CedarDecision::Deny, _, true) => (Outcome::NotPermitted, reasons),
            (CedarDecision::Deny, _, false) => (Outcome::Forbidden, reasons),
        }
    }
}
