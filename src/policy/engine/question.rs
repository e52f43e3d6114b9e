//! A question in Cedar's own values, for the policies that have conditions.

use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request,
    RestrictedExpression as Expression,
};
use time::OffsetDateTime;

use super::builder::Conditional;
use super::compiled::{CompiledAction, Engine};
use super::located::Located;
use super::principal::Principal;
use crate::mapping::{Resource, Tags, Value};
use crate::policy::forms::{Attributes, Known};

/// What Cedar's authorizer takes.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) entities: Entities,
}

/// What is asked, as far as it is known without Cedar's values.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) principal: &'a Principal,
    pub(super) action: &'a CompiledAction,
    pub(super) resource: &'a Resource,
    pub(super) located: &'a Located,
    pub(super) known: &'a Known<'a>,
}

/// The one entity of type `Headers`: policies cannot name it, only read `context.headers`.
const HEADERS_ID: &str = "request";
/// The one entity of type `Claims`: policies only read `context.token.claims`.
const CLAIMS_ID: &str = "token";

impl Question {
    /// The request and a store of just what the conditions can see: principal and resource with all they are in as parents, the action
    /// with its groups, the headers, the entities that the conditions name themselves, and the context attributes that they read.
    ///
    /// INVARIANT: the form of the action (`ActionForm::check`) has been checked, which is what Cedar's own request validation checks; with
    /// only a part of the context Cedar could not.
    pub(super) fn new(
        engine: &Engine,
        asked: &Asked<'_>,
        reads: Attributes,
        conditionals: &[&Conditional],
    ) -> Result<Self, String> {
        let Asked { principal, action, .. } = asked;
        let form = &action.form;
        let kind = engine.type_name(asked.resource.kind()).ok_or("resource type is unknown")?;
        let resource = EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(asked.resource.id()));
        let parents = asked.located.parents.iter().filter_map(|name| engine.names().uid(*name).cloned());
        let resource_entity = Entity::new_with_tags(resource.clone(), [], parents, asked.located.tags.expressions())
            .map_err(|cause| cause.to_string())?;
        let mut entities = vec![resource_entity, action.entity.clone()];

        let mut context = Vec::new();
        for attribute in reads.iter() {
            let Some(name) = engine.forms.attribute(attribute) else { continue };
            let value = asked.known.value(attribute);
            if form.headers() == Some(attribute) {
                let uid = EntityUid::from_type_name_and_id(engine.headers_type().clone(), EntityId::new(HEADERS_ID));
                let fields = match value {
                    Some(Value::Headers(fields)) => fields.as_slice(),
                    _ => &[],
                };
                entities.push(tagged(uid.clone(), fields)?);
                context.push((name.to_owned(), Expression::new_entity_uid(uid)));
            } else if let Some(value) = value {
                let claims = claims_of(value);
                let value = if claims.is_some() { with_claims(engine, value)? } else { expression(value)? };
                context.push((name.to_owned(), value));
                if let Some(claims) = claims {
                    entities.push(tagged(claims_uid(engine), claims)?);
                }
            }
        }

        let mut present = vec![principal.uid.clone(), resource.clone(), form.uid.clone()];
        for literal in conditionals.iter().flat_map(|conditional| &conditional.literals) {
            let uid = literal.uid();
            if !present.contains(&uid) {
                present.push(uid);
                entities.push(literal.clone());
            }
        }
        let context = CedarContext::from_pairs(context).map_err(|cause| cause.to_string())?;
        let request = Request::new(principal.uid.clone(), form.uid.clone(), resource, context, None);
        // Added to the principal's own small store: Cedar then closes over the new ones alone.
        let entities = principal.entities.clone()?.add_entities(entities, None);
        Ok(Self {
            request: request.map_err(|cause| cause.to_string())?,
            entities: entities.map_err(|cause| cause.to_string())?,
        })
    }
}

fn claims_uid(engine: &Engine) -> EntityUid {
    EntityUid::from_type_name_and_id(engine.claims_type().clone(), EntityId::new(CLAIMS_ID))
}

/// The claims in a token.
fn claims_of(value: &Value) -> Option<&Tags> {
    let Value::Record(fields) = value else { return None };
    fields.iter().find_map(|(_, field)| match field {
        Value::Claims(claims) => Some(claims),
        _ => None,
    })
}

/// A token, whose claims are an entity.
fn with_claims(engine: &Engine, token: &Value) -> Result<Expression, String> {
    let Value::Record(fields) = token else { return expression(token) };
    let fields = fields.iter().map(|(name, value)| {
        let value = match value {
            Value::Claims(_) => Expression::new_entity_uid(claims_uid(engine)),
            other => expression(other)?,
        };
        Ok(((*name).to_owned(), value))
    });
    Expression::new_record(fields.collect::<Result<Vec<_>, String>>()?).map_err(|cause| cause.to_string())
}

/// Several fields of one name are several members of one set.
fn tagged(uid: EntityUid, fields: &[(Box<str>, Vec<Box<str>>)]) -> Result<Entity, String> {
    let tags = fields.iter().map(|(name, values)| (name.to_string(), strings(values)));
    Entity::new_with_tags(uid, [], [], tags).map_err(|cause| cause.to_string())
}

fn strings(values: &[Box<str>]) -> Expression {
    Expression::new_set(values.iter().map(|value| Expression::new_string(value.to_string())))
}

pub(super) fn expression(value: &Value) -> Result<Expression, String> {
    Ok(match value {
        Value::Bool(value) => Expression::new_bool(*value),
        Value::Long(value) => Expression::new_long(*value),
        Value::String(value) => Expression::new_string(value.to_string()),
        Value::Strings(values) => strings(values),
        // Cedar takes no IPv4 address in IPv6 clothes, and a policy means the IPv4 one.
        Value::Ip(address) => Expression::new_ip(address.to_canonical().to_string()),
        Value::Datetime(millis) => Expression::new_datetime(datetime(*millis)?),
        Value::Record(fields) => {
            let fields = fields.iter().map(|(name, value)| Ok(((*name).to_owned(), expression(value)?)));
            Expression::new_record(fields.collect::<Result<Vec<_>, String>>()?).map_err(|cause| cause.to_string())?
        }
        Value::Headers(_) => return Err("headers are only in the context itself".to_owned()),
        Value::Claims(_) => return Err("claims are only in a token".to_owned()),
    })
}

/// As Cedar reads a datetime: `2026-11-21T10:00:00.000Z` (<https://docs.cedarpolicy.com/policies/syntax-datatypes.html>).
fn datetime(millis: i64) -> Result<String, String> {
    let at =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).map_err(|cause| cause.to_string())?;
    if !(0..=9999).contains(&at.year()) {
        return Err(format!("{millis} ms is no datetime of Cedar's"));
    }
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, milli) = at.to_hms_milli();
    Ok(format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", u8::from(month)))
}

/// The type of a name that the schema has.
pub(super) fn type_name(name: &str) -> Result<EntityTypeName, String> {
    name.parse().map_err(|cause| format!("`{name}` is no type: {cause}"))
}
