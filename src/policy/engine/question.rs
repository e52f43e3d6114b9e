//! A question in Cedar's own values, for the policies that have conditions.

use std::borrow::Cow;

use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request,
    RestrictedExpression as Expression,
};
use time::OffsetDateTime;

use super::compiled::{CompiledAction, Engine};
use super::conditions::Condition;
use super::located::Located;
use super::principal::Principal;
use crate::mapping::{Resource, Value};
use crate::policy::forms::{Attributes, Fields, Known};
use crate::policy::load::Looks;

/// What Cedar's authorizer takes.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) request: Request,
    pub(super) entities: Cow<'a, Entities>,
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

/// What some conditions see.
#[derive(Debug, Default)]
struct Seen<'a> {
    reads: Attributes,
    fields: Fields,
    looks: Looks,
    literals: Vec<&'a Entity>,
}

impl<'a> Seen<'a> {
    fn by(conditions: impl Iterator<Item = &'a Condition>) -> Self {
        conditions.fold(Self::default(), |mut seen, condition| {
            seen.reads = seen.reads.union(condition.reads);
            seen.fields = seen.fields.union(condition.fields);
            seen.looks = seen.looks.max(condition.looks);
            seen.literals.extend(&condition.literals);
            seen
        })
    }
}

impl<'a> Question<'a> {
    /// The request with the context attributes that the conditions read, and a store of just the entities that they see more of than the
    /// ids: none, the principal, or all that there are: principal and resource with all they are in as parents, the action with its groups,
    /// the headers, and the entities that the conditions name themselves.
    ///
    /// INVARIANT: the form of the action (`ActionForm::check`) has been checked, which is what Cedar's own request validation checks; with
    /// only a part of the context Cedar could not.
    pub(super) fn new<'c>(
        engine: &Engine,
        asked: &Asked<'a>,
        conditions: impl Iterator<Item = &'c Condition>,
    ) -> Result<Self, String> {
        Self::seen(engine, asked, &Seen::by(conditions))
    }

    /// The same with everything that any policy sees, of the scopes too.
    pub(super) fn to_all(engine: &Engine, asked: &Asked<'_>) -> Result<Question<'static>, String> {
        let seen = Seen { looks: Looks::Anywhere, ..Seen::by(engine.conditions.iter()) };
        let Question { request, entities } = Question::seen(engine, asked, &seen)?;
        Ok(Question { request, entities: Cow::Owned(entities.into_owned()) })
    }

    fn seen(engine: &Engine, asked: &Asked<'a>, seen: &Seen<'_>) -> Result<Self, String> {
        let Asked { principal, action, .. } = asked;
        let form = &action.form;
        let kind = engine.type_name(asked.resource.kind()).ok_or("resource type is unknown")?;
        let resource = EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(asked.resource.id()));
        let mut entities = Vec::new();
        let context = context(engine, asked, seen, &mut entities)?;
        let entities = match seen.looks {
            Looks::Nowhere => Cow::Owned(Entities::empty()),
            Looks::Principal => Cow::Borrowed(principal.entities.as_ref().map_err(Clone::clone)?),
            Looks::Anywhere => {
                let parents = asked.located.parents.iter().filter_map(|name| engine.names().uid(*name).cloned());
                let tags = asked.located.tags.expressions();
                let found = Entity::new_with_tags(resource.clone(), [], parents, tags);
                entities.extend([found.map_err(|cause| cause.to_string())?, action.entity.clone()]);
                let mut present = vec![principal.uid.clone(), resource.clone(), form.uid.clone()];
                for literal in &seen.literals {
                    let uid = literal.uid();
                    if !present.contains(&uid) {
                        present.push(uid);
                        entities.push((*literal).clone());
                    }
                }
                // Added to the principal's own small store: Cedar then closes over the new ones alone.
                let all = principal.entities.clone()?.add_entities(entities, None);
                Cow::Owned(all.map_err(|cause| cause.to_string())?)
            }
        };
        let request = Request::new(principal.uid.clone(), form.uid.clone(), resource, context, None);
        Ok(Self { request: request.map_err(|cause| cause.to_string())?, entities })
    }
}

/// What of the context is seen. What is an entity of its own is added to `entities`.
fn context(
    engine: &Engine,
    asked: &Asked<'_>,
    seen: &Seen<'_>,
    entities: &mut Vec<Entity>,
) -> Result<CedarContext, String> {
    let form = &asked.action.form;
    let mut context = Vec::new();
    for attribute in seen.reads.iter() {
        let Some(name) = engine.forms.attribute(attribute) else { continue };
        let value = asked.known.value(attribute);
        if form.headers() == Some(attribute) {
            let uid = EntityUid::from_type_name_and_id(engine.headers_type().clone(), EntityId::new(HEADERS_ID));
            if seen.looks == Looks::Anywhere {
                let fields = match value {
                    Some(Value::Headers(fields)) => fields.as_slice(),
                    _ => &[],
                };
                entities.push(tagged(uid.clone(), fields)?);
            }
            context.push((name.to_owned(), Expression::new_entity_uid(uid)));
        } else if let Some(Value::Record(fields)) = value {
            let read = fields.iter().filter(|(field, _)| engine.forms.has_field(seen.fields, attribute, field));
            let mut record = Vec::new();
            for (field, value) in read {
                let value = match value {
                    Value::Claims(claims) => {
                        if seen.looks == Looks::Anywhere {
                            entities.push(tagged(claims_uid(engine), claims)?);
                        }
                        Expression::new_entity_uid(claims_uid(engine))
                    }
                    other => expression(other)?,
                };
                record.push(((*field).to_owned(), value));
            }
            context.push((name.to_owned(), Expression::new_record(record).map_err(|cause| cause.to_string())?));
        } else if let Some(value) = value {
            context.push((name.to_owned(), expression(value)?));
        }
    }
    CedarContext::from_pairs(context).map_err(|cause| cause.to_string())
}

fn claims_uid(engine: &Engine) -> EntityUid {
    EntityUid::from_type_name_and_id(engine.claims_type().clone(), EntityId::new(CLAIMS_ID))
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
