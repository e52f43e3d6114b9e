//! The same decisions by plain Cedar: the whole policy set, and a store of entities that is made for each request.

use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression as Expression, Schema,
};
use portcullis::mapping::Value;
use portcullis::policy::SHIPPED_SCHEMA;

use crate::pipeline::{Asked, Pipeline, workload};

/// Cedar with everything that it needs.
#[derive(Debug)]
pub(crate) struct Naive {
    policies: PolicySet,
    actions: Entities,
    authorizer: Authorizer,
}

impl Naive {
    pub(crate) fn of(pipeline: &Pipeline) -> Self {
        let policies = PolicySet::from_str(&pipeline.files.join("\n")).expect("policies");
        let (schema, _) = Schema::from_cedarschema_str(SHIPPED_SCHEMA).expect("schema");
        Self { policies, actions: schema.action_entities().expect("actions"), authorizer: Authorizer::new() }
    }

    /// Whether stage number `stage` is allowed what is asked.
    pub(crate) fn decide(&self, stage: usize, asked: &Asked) -> bool {
        let id = workload(stage);
        let principal = uid("Workload", id.as_str());
        let path = [("spiffeId", id.as_str()), ("trustDomain", id.trust_domain()), ("path", id.path())];
        let attributes = path.map(|(name, value)| (name.to_owned(), Expression::new_string(value.to_owned())));
        let team = Expression::new_set([Expression::new_string(format!("t{}", stage % 7))]);
        let above = [uid("Stage", &format!("s{stage}")), uid("TrustDomain", id.trust_domain())];
        let workload = Entity::new_with_tags(principal.clone(), attributes, above, [("team".to_owned(), team)]);
        let resource = &asked.operation.resource;
        let above = resource.ancestors().map(|(kind, id)| uid(kind.as_str(), id));
        let resource = uid(resource.kind().as_str(), resource.id());
        let found = Entity::new_no_attrs(resource.clone(), above.collect());
        let headers = uid("Headers", "request");
        let mut entities = vec![workload.expect("workload"), found, Entity::with_uid(headers.clone())];
        let action = uid("Action", asked.operation.action.as_str());
        entities.extend(self.actions.get(&action).cloned());
        let context = asked.facts.iter().chain(asked.operation.context.iter());
        let context = context.map(|(name, value)| (name.to_owned(), expression(value, &headers)));
        let context = Context::from_pairs(context.collect::<Vec<_>>()).expect("context");
        let request = Request::new(principal, action, resource, context, None).expect("request");
        let entities = Entities::from_entities(entities, None).expect("entities");
        self.authorizer.is_authorized(&request, &self.policies, &entities).decision() == Decision::Allow
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(EntityTypeName::from_str(kind).expect("a type"), EntityId::new(id))
}

fn expression(value: &Value, headers: &EntityUid) -> Expression {
    match value {
        Value::Bool(value) => Expression::new_bool(*value),
        Value::Long(value) => Expression::new_long(*value),
        Value::String(value) => Expression::new_string(value.to_string()),
        Value::Strings(values) => Expression::new_set(values.iter().map(|v| Expression::new_string(v.to_string()))),
        Value::Ip(address) => Expression::new_ip(address.to_string()),
        Value::Datetime(_) => Expression::new_datetime("2026-11-22T13:00:00Z"),
        Value::Record(fields) => {
            Expression::new_record(fields.iter().map(|(name, value)| ((*name).to_owned(), expression(value, headers))))
                .expect("a record")
        }
        Value::Headers(_) | Value::Claims(_) => Expression::new_entity_uid(headers.clone()),
    }
}
