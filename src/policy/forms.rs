//! What may be asked with each action: on which resources, with which context.

use std::sync::Arc;

use ahash::AHashMap;
use cedar_policy::{EntityUid, Schema};
use serde_json::Value as Json;

use crate::mapping::{Context, ResourceKind, Value};

/// Most attributes that the contexts of all actions have together, each known by one bit.
const MOST_ATTRIBUTES: usize = 64;

/// When a question is asked: the one thing that is another at each time that the same is asked.
const NOW: &str = "now";

/// The forms of all actions.
#[derive(Debug)]
pub(super) struct ActionForms {
    forms: AHashMap<Box<str>, Arc<ActionForm>>,
    /// The names of all attributes of all contexts: an attribute's number is its place here.
    attributes: Vec<Box<str>>,
    /// Of the attributes that are records, by number, the fields: a field's number is its place here.
    fields: Vec<(u8, Box<str>)>,
    time: Attributes,
}

/// What may be asked with one action.
#[derive(Debug)]
pub(super) struct ActionForm {
    pub(super) uid: EntityUid,
    resources: Vec<ResourceKind>,
    context: Arc<ContextForm>,
    /// The number of the attribute that is the header entity.
    headers: Option<u8>,
}

/// Some attributes of contexts, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes(u64);

impl Attributes {
    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let number = u8::try_from(left.trailing_zeros()).ok().filter(|_| left != 0)?;
            left &= left - 1;
            Some(number)
        })
    }
}

/// Some fields of records in contexts, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fields(u64);

impl Fields {
    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The context of a question that has the form of its action: each value under the number of its attribute.
#[derive(Debug, Clone)]
pub(super) struct Known<'a>([Option<&'a Value>; MOST_ATTRIBUTES]);

impl<'a> Known<'a> {
    pub(super) const fn nothing() -> Self {
        Self([None; MOST_ATTRIBUTES])
    }

    pub(super) fn value(&self, number: u8) -> Option<&'a Value> {
        self.0.get(usize::from(number)).copied().flatten()
    }
}

impl ActionForms {
    /// Of all actions of the shipped schema (`json`) on resources that a mapper can name: mappers name no others.
    pub(super) fn new(schema: &Schema, json: &Json) -> Result<Self, String> {
        let shipped = json.pointer("/").ok_or("the shipped schema has no default namespace")?;
        let mut attributes = Vec::new();
        let mut fields: Vec<(u8, Box<str>)> = Vec::new();
        let mut contexts: AHashMap<String, Arc<ContextForm>> = AHashMap::new();
        let mut forms = AHashMap::new();
        for uid in schema.actions() {
            let name = uid.id().unescaped();
            let Some(context) =
                shipped.get("actions").and_then(|actions| actions.get(name)?.pointer("/appliesTo/context"))
            else {
                continue;
            };
            let context = match contexts.get(&context.to_string()) {
                Some(form) => Arc::clone(form),
                None => {
                    let mut form = ContextForm::read(context, shipped)
                        .ok_or_else(|| format!("context of `{name}` has a type that no mapper can make"))?;
                    form.number(&mut attributes)?;
                    for field in form.fields() {
                        if !fields.contains(&field) {
                            fields.push(field);
                        }
                    }
                    Arc::clone(contexts.entry(context.to_string()).or_insert(Arc::new(form)))
                }
            };
            let kinds: Vec<String> =
                schema.resources_for_action(uid).into_iter().flatten().map(ToString::to_string).collect();
            let resources =
                ResourceKind::ALL.into_iter().filter(|kind| kinds.iter().any(|name| name == kind.as_str())).collect();
            let headers = context.attributes.iter().find(|attribute| attribute.kind == Kind::Headers);
            let headers = headers.map(|attribute| attribute.number);
            forms.insert(name.into(), Arc::new(ActionForm { uid: uid.clone(), resources, context, headers }));
        }
        if fields.len() > MOST_ATTRIBUTES {
            return Err(format!("records of contexts have more than {MOST_ATTRIBUTES} fields"));
        }
        let mut all = Self { forms, attributes, fields, time: Attributes::default() };
        all.time = all.attributes(|name| name == NOW);
        Ok(all)
    }

    pub(super) fn get(&self, action: &str) -> Option<&ActionForm> {
        self.forms.get(action).map(|form| &**form)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<ActionForm>)> {
        self.forms.iter().map(|(name, form)| (&**name, form))
    }

    /// The name of the attribute of this number.
    pub(super) fn attribute(&self, number: u8) -> Option<&str> {
        self.attributes.get(usize::from(number)).map(|name| &**name)
    }

    /// Whether the time of the question is among these.
    pub(super) const fn reads_time(&self, attributes: Attributes) -> bool {
        self.time.0 & attributes.0 != 0
    }

    /// The attributes whose names fit.
    pub(super) fn attributes(&self, fits: impl Fn(&str) -> bool) -> Attributes {
        let numbered = (0_u8..).zip(&self.attributes).filter(|(_, name)| fits(name));
        Attributes(numbered.fold(0, |all, (number, _)| all | 1 << number))
    }
}

impl ActionForms {
    /// The fields, of the attributes of these names, that fit.
    pub(super) fn fields(&self, fits: impl Fn(&str, &str) -> bool) -> Fields {
        let fits = |(of, name): &(u8, Box<str>)| self.attribute(*of).is_some_and(|attribute| fits(attribute, name));
        let numbered = (0_u8..).zip(&self.fields).filter(|(_, field)| fits(field));
        Fields(numbered.fold(0, |all, (number, _)| all | 1 << number))
    }

    /// Whether a field of the attribute of this number is among these; one that no schema has is.
    pub(super) fn has_field(&self, fields: Fields, attribute: u8, name: &str) -> bool {
        let place = self.fields.iter().position(|(of, known)| *of == attribute && &**known == name);
        place.is_none_or(|place| fields.0 & (1 << place) != 0)
    }
}

impl ActionForm {
    /// Whether the action can be asked about such a resource.
    pub(super) fn applies_to(&self, kind: ResourceKind) -> bool {
        self.resources.contains(&kind)
    }

    #[cfg(test)]
    pub(super) fn resources(&self) -> &[ResourceKind] {
        &self.resources
    }

    /// The names of what its context may hold.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &str> {
        self.context.attributes.iter().map(|attribute| &*attribute.name)
    }

    /// The same number for all actions of this schema whose questions have one form.
    pub(super) fn context_form(&self) -> usize {
        Arc::as_ptr(&self.context).addr()
    }

    /// The number of the attribute that is the header entity, where a question has one.
    pub(super) const fn headers(&self) -> Option<u8> {
        self.headers
    }

    /// Checks what Cedar checks when a request is validated, without Cedar's values: a question that needs no condition is held to
    /// the schema too. Absent headers are no fault: the decision point makes empty ones.
    ///
    /// # Errors
    /// The first attribute that is unknown, missing, there twice, or of another type.
    pub(super) fn check<'a>(&self, facts: &'a Context, own: &'a Context, known: &mut Known<'a>) -> Result<(), String> {
        self.context.check(facts.iter().chain(own.iter()), |number, value| {
            if let Some(place) = known.0.get_mut(usize::from(number)) {
                *place = Some(value);
            }
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct ContextForm {
    attributes: Vec<Attribute>,
    /// None: there are so few that looking through them is as quick.
    places: Option<Places>,
    required: u64,
}

/// Where each attribute stands among the others, by a hash of its name that no two of them share.
#[derive(Debug, PartialEq, Eq)]
struct Places {
    factor: u32,
    by_hash: Box<[u8; Places::MOST]>,
}

impl Places {
    const MOST: usize = 256;

    /// None if no factor keeps them apart.
    fn of(attributes: &[Attribute]) -> Option<Self> {
        (1..10_000_u32).find_map(|n| {
            let factor = n.wrapping_mul(0x9E37_79B1) | 1;
            let mut by_hash = Box::new([u8::MAX; Self::MOST]);
            for (place, attribute) in (0_u8..).zip(attributes) {
                let slot = by_hash.get_mut(Self::hash(&attribute.name, factor)).filter(|slot| **slot == u8::MAX)?;
                *slot = place;
            }
            Some(Self { factor, by_hash })
        })
    }

    /// Of the length and the bytes at the beginning, at three quarters and at the end: no two names of the schema have all of them in common.
    fn hash(name: &str, factor: u32) -> usize {
        let bytes = name.as_bytes();
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        let [length, ..] = bytes.len().to_le_bytes();
        let mixed =
            u32::from_le_bytes([length, byte(0), byte(bytes.len() * 3 / 4), byte(bytes.len().saturating_sub(1))]);
        usize::from(mixed.wrapping_mul(factor).to_be_bytes()[0])
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.by_hash.get(Self::hash(name, self.factor)).map(|place| usize::from(*place))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Attribute {
    name: Box<str>,
    required: bool,
    kind: Kind,
    /// Among the attributes of all contexts; of no meaning inside of records.
    number: u8,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Long,
    String,
    Strings,
    Ip,
    Datetime,
    Headers,
    Claims,
    Record(ContextForm),
}

impl ContextForm {
    fn read(json: &Json, schema: &Json) -> Option<Self> {
        match Kind::read(json, schema)? {
            Kind::Record(form) => Some(form),
            _ => None,
        }
    }

    /// Numbers the attributes; those that other contexts have, too, as there.
    fn number(&mut self, names: &mut Vec<Box<str>>) -> Result<(), String> {
        for attribute in &mut self.attributes {
            let known = names.iter().position(|name| *name == attribute.name);
            let number = known.unwrap_or_else(|| {
                names.push(attribute.name.clone());
                names.len() - 1
            });
            let fits = u8::try_from(number).ok().filter(|_| number < MOST_ATTRIBUTES);
            attribute.number = fits.ok_or_else(|| format!("contexts have more than {MOST_ATTRIBUTES} attributes"))?;
        }
        self.places = Places::of(&self.attributes);
        Ok(())
    }

    /// The fields of those attributes that are records, with the numbers of these.
    fn fields(&self) -> impl Iterator<Item = (u8, Box<str>)> {
        let records = self.attributes.iter().filter_map(|attribute| match &attribute.kind {
            Kind::Record(form) => Some((attribute.number, form)),
            _ => None,
        });
        records.flat_map(|(number, form)| form.attributes.iter().map(move |field| (number, field.name.clone())))
    }

    fn find(&self, name: &str) -> Option<(usize, &Attribute)> {
        match &self.places {
            Some(places) => {
                let place = places.find(name)?;
                self.attributes
                    .get(place)
                    .filter(|attribute| &*attribute.name == name)
                    .map(|attribute| (place, attribute))
            }
            None => self.attributes.iter().enumerate().find(|(_, attribute)| &*attribute.name == name),
        }
    }

    fn check<'a>(
        &self,
        values: impl Iterator<Item = (&'static str, &'a Value)>,
        mut found: impl FnMut(u8, &'a Value),
    ) -> Result<(), String> {
        // One bit an attribute: no context of the shipped schema has 64.
        let mut seen = 0_u64;
        for (name, value) in values {
            let Some((at, attribute)) = self.find(name) else {
                return Err(format!("context has the unknown attribute `{name}`"));
            };
            attribute.kind.check(name, value)?;
            let bit = 1 << (at & 63);
            if seen & bit != 0 {
                return Err(format!("context has the attribute `{name}` twice"));
            }
            seen |= bit;
            found(attribute.number, value);
        }
        let missing = self.required & !seen;
        if missing == 0 {
            return Ok(());
        }
        let first = self.attributes.get(missing.trailing_zeros() as usize);
        Err(format!("context has no `{}`", first.map_or("?", |attribute| &attribute.name)))
    }
}

impl Kind {
    fn read(json: &Json, schema: &Json) -> Option<Self> {
        // A name stands for a common type, else for a primitive one or an entity type.
        let named = match json.get("type")?.as_str()? {
            "EntityOrCommon" => json.get("name")?.as_str()?,
            direct => direct,
        };
        Some(match named {
            "Boolean" | "Bool" => Self::Bool,
            "Long" => Self::Long,
            "String" => Self::String,
            "Set" => match Self::read(json.get("element")?, schema)? {
                Self::String => Self::Strings,
                _ => return None,
            },
            "ipaddr" => Self::Ip,
            "datetime" => Self::Datetime,
            "Headers" => Self::Headers,
            "Claims" => Self::Claims,
            "Record" => {
                let attributes = json.get("attributes")?.as_object()?.iter().map(|(name, json)| {
                    let required = json.get("required").and_then(Json::as_bool).unwrap_or(true);
                    Some(Attribute { name: name.as_str().into(), required, kind: Self::read(json, schema)?, number: 0 })
                });
                let attributes: Vec<Attribute> = attributes.collect::<Option<_>>()?;
                // Each is known by one bit.
                let numbered =
                    (0_u32..64).zip(&attributes).filter(|(_, one)| one.required && one.kind != Self::Headers);
                let required = numbered.fold(0, |all, (at, _)| all | 1 << at);
                if attributes.len() >= 64 {
                    return None;
                }
                Self::Record(ContextForm { attributes, places: None, required })
            }
            common => Self::read(schema.get("commonTypes")?.get(common)?, schema)?,
        })
    }

    fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Self::Bool, Value::Bool(_))
            | (Self::Long, Value::Long(_))
            | (Self::String, Value::String(_))
            | (Self::Strings, Value::Strings(_))
            | (Self::Ip, Value::Ip(_))
            | (Self::Datetime, Value::Datetime(_))
            | (Self::Headers, Value::Headers(_))
            | (Self::Claims, Value::Claims(_)) => Ok(()),
            (Self::Record(form), Value::Record(fields)) => form
                .check(fields.iter().map(|(name, value)| (*name, value)), |_, _| ())
                .map_err(|cause| format!("`{name}`: {cause}")),
            _ => Err(format!("context has `{name}` of another type than the schema's")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load::Problems;
    use crate::policy::schema;

    fn check(form: &ActionForm, facts: &Context, own: &Context) -> Result<(), String> {
        form.check(facts, own, &mut Known::nothing())
    }

    #[test]
    fn every_form_finds_its_attributes_without_looking_through_them() {
        let forms = schema::merge(&[], &mut Problems::default()).expect("merges").forms;
        for (name, form) in forms.iter() {
            assert!(form.context.places.is_some(), "{name}");
            for attribute in &form.context.attributes {
                assert_eq!(form.context.find(&attribute.name).map(|(_, found)| found), Some(attribute));
            }
        }
    }

    #[test]
    fn a_question_is_held_to_the_form_of_its_action() {
        let mut problems = Problems::default();
        let forms = schema::merge(&[], &mut problems).expect("merges").forms;
        let form = forms.get("http:GET").expect("known");
        assert!(form.applies_to(ResourceKind::HttpPath) && !form.applies_to(ResourceKind::Bucket));
        let mut facts = Context::default();
        let none = Context::default();
        assert_eq!(check(form, &facts, &none), Err("context has no `direction`".to_owned()));
        facts.set("direction", "inbound");
        assert_eq!(check(form, &facts, &none), Err("context has no `now`".to_owned()));
        facts.set("now", Value::Datetime(0));
        assert_eq!(check(form, &facts, &none), Ok(()));
        assert_eq!(check(form, &facts, &facts.clone()), Err("context has the attribute `direction` twice".to_owned()));
        let mut own = Context::default();
        own.set("host", 7_i64);
        assert_eq!(check(form, &facts, &own), Err("context has `host` of another type than the schema's".to_owned()));
        let mut own = Context::default();
        own.set("acl", "private");
        assert_eq!(check(form, &facts, &own), Err("context has the unknown attribute `acl`".to_owned()));
        let mut own = Context::default();
        own.set("tls", Value::Record(vec![("version", "TLSv1.3".into())]));
        assert_eq!(check(form, &facts, &own), Err("`tls`: context has no `certificateExpiry`".to_owned()));
    }
}
