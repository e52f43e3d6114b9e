//! What is left of a policy's conditions once it is known who asks and about what.
//!
//! Everything that conditions can ask of a principal's, action's or resource's place (`in`, `==`, `is`, tags) is the same for all
//! members of a class, so it is decided here. What is left reads the context, and attributes of the principal.

mod compared;
mod left;
mod logic;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

pub(in crate::analysis) use self::compared::compared;
pub(in crate::analysis) use self::left::{ContextAssumed, Left, may_err};
pub(in crate::analysis) use self::logic::truth;
use self::logic::{and, as_bool, like, not, or};
use crate::mapping::ResourceKind;
use crate::policy::{Spot, Survey, Surveyed};

/// A policy that is left after all that is known of a question.
#[derive(Debug, Clone)]
pub(in crate::analysis) struct Residual {
    pub(in crate::analysis) id: Arc<str>,
    pub(in crate::analysis) permits: bool,
    pub(in crate::analysis) body: Body,
}

/// The conditions together.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::analysis) enum Body {
    Holds,
    Open(Json),
}

impl Residual {
    /// The same for those that say the same.
    pub(in crate::analysis) fn text(&self) -> String {
        match &self.body {
            Body::Holds => format!("{} holds", self.permits),
            Body::Open(body) => format!("{} {body}", self.permits),
        }
    }
}

/// A question's place, in the eyes of one generation.
#[derive(Debug)]
pub(in crate::analysis) struct Place<'a> {
    pub(in crate::analysis) survey: &'a Survey<'a>,
    pub(in crate::analysis) principal: &'a Spot,
    pub(in crate::analysis) action: &'a Spot,
    pub(in crate::analysis) resource: &'a Spot,
    pub(in crate::analysis) kind: ResourceKind,
    /// The principal's attributes, where there is just one such principal.
    pub(in crate::analysis) attributes: Option<&'a BTreeMap<&'static str, String>>,
}

impl Place<'_> {
    /// What is left of a policy; none if it does not match here.
    pub(in crate::analysis) fn residual(&self, policy: &Surveyed) -> Option<Residual> {
        let mut whole = truth(true);
        for condition in &policy.conditions {
            let body = self.reduce(condition.get("body").unwrap_or(&Json::Null));
            let body = if condition.get("kind") == Some(&json!("unless")) { not(body) } else { body };
            whole = and(whole, body);
        }
        let body = match as_bool(&whole) {
            Some(false) => return None,
            Some(true) => Body::Holds,
            None => Body::Open(whole),
        };
        Some(Residual { id: Arc::clone(&policy.id), permits: policy.permits, body })
    }

    fn reduce(&self, tree: &Json) -> Json {
        let Some((operator, operands)) = tree.as_object().and_then(|fields| fields.iter().next()) else {
            return tree.clone();
        };
        let part = |name: &str| operands.get(name).unwrap_or(&Json::Null);
        let (left, right) = (part("left"), part("right"));
        match operator.as_str() {
            "Value" | "Var" | "Slot" => tree.clone(),
            "&&" => and(self.reduce(left), self.reduce(right)),
            "||" => or(self.reduce(left), self.reduce(right)),
            "!" => not(self.reduce(part("arg"))),
            "if-then-else" => self.choice(operands),
            "==" | "!=" => match self.same(left, right) {
                Some(same) => truth(same == (operator == "==")),
                None => json!({operator: {"left": self.reduce(left), "right": self.reduce(right)}}),
            },
            "in" => self.within(left, right).map_or_else(|| self.each(operator, operands), truth),
            "is" => self.of_kind(operands).map_or_else(|| self.each(operator, operands), truth),
            "contains" => self.member(left, right).map_or_else(|| self.each(operator, operands), truth),
            "hasTag" => self.has_tag(left, right).map_or_else(|| self.each(operator, operands), truth),
            "getTag" => self.tag(left, right).unwrap_or_else(|| self.each(operator, operands)),
            "." => self.attribute(operands).unwrap_or_else(|| self.each(operator, operands)),
            "has" => self.has_attribute(operands).map_or_else(|| self.each(operator, operands), truth),
            "like" => {
                let left = self.reduce(left);
                match text_of(&left).and_then(|text| like(text, part("pattern"))) {
                    Some(fits) => truth(fits),
                    None => json!({"like": {"left": left, "pattern": part("pattern")}}),
                }
            }
            "Set" => json!({"Set": list(operands).map(|item| self.reduce(item)).collect::<Vec<_>>()}),
            _ => self.each(operator, operands),
        }
    }

    /// The same operator over what is left of its operands.
    fn each(&self, operator: &str, operands: &Json) -> Json {
        let reduced = match operands {
            Json::Array(items) => Json::Array(items.iter().map(|item| self.reduce(item)).collect()),
            Json::Object(fields) => {
                let is_tree = |name: &str| operator == "Record" || !matches!(name, "attr" | "pattern" | "entity_type");
                let reduce = |(name, field): (&String, &Json)| {
                    (name.clone(), if is_tree(name) { self.reduce(field) } else { field.clone() })
                };
                Json::Object(fields.iter().map(reduce).collect())
            }
            other => other.clone(),
        };
        json!({operator: reduced})
    }

    fn choice(&self, operands: &Json) -> Json {
        let part = |name: &str| self.reduce(operands.get(name).unwrap_or(&Json::Null));
        let condition = part("if");
        match as_bool(&condition) {
            Some(true) => part("then"),
            Some(false) => part("else"),
            None => json!({"if-then-else": {"if": condition, "then": part("then"), "else": part("else")}}),
        }
    }

    fn spot(&self, tree: &Json) -> Option<&Spot> {
        match tree.get("Var")?.as_str()? {
            "principal" => Some(self.principal),
            "action" => Some(self.action),
            "resource" => Some(self.resource),
            _ => None,
        }
    }

    fn same(&self, left: &Json, right: &Json) -> Option<bool> {
        for (one, other) in [(left, right), (right, left)] {
            if let (Some(spot), Some((kind, id))) = (self.spot(one), entity(other)) {
                return Some(self.survey.is(spot, kind, id));
            }
        }
        let (left, right) = (self.reduce(left), self.reduce(right));
        let value = |tree: &Json| tree.get("Value").filter(|value| !value.is_object() && !value.is_array()).cloned();
        Some(value(&left)? == value(&right)?)
    }

    fn within(&self, left: &Json, right: &Json) -> Option<bool> {
        // What a resource or principal is in is the same for its class, and so is what is in it; of actions nobody asks that.
        if let (Some((kind, id)), Some("resource" | "principal")) =
            (entity(left), right.get("Var").and_then(Json::as_str))
        {
            return Some(self.survey.holds(self.spot(right)?, kind, id));
        }
        let spot = self.spot(left)?;
        let above = entities(right)?;
        Some(above.into_iter().any(|(kind, id)| self.survey.is_in(spot, kind, id)))
    }

    fn of_kind(&self, operands: &Json) -> Option<bool> {
        let left = operands.get("left")?;
        let kind = match left.get("Var")?.as_str()? {
            "principal" => "Workload",
            "resource" => self.kind.as_str(),
            _ => return None,
        };
        let is = operands.get("entity_type")?.as_str()? == kind;
        match operands.get("in") {
            Some(above) if is => self.within(left, above),
            _ => Some(is),
        }
    }

    /// `[Bucket::"a", Bucket::"b"].contains(resource)`, or a text in a set of texts.
    fn member(&self, left: &Json, right: &Json) -> Option<bool> {
        if let (Some(spot), Some(listed)) = (self.spot(right), entities(left)) {
            return Some(listed.into_iter().any(|(kind, id)| self.survey.is(spot, kind, id)));
        }
        let (left, right) = (self.reduce(left), self.reduce(right));
        let wanted = text_of(&right)?;
        let texts: Option<Vec<&str>> = left.get("Set")?.as_array()?.iter().map(text_of).collect();
        Some(texts?.contains(&wanted))
    }

    fn tags(&self, of: &Json, name: &Json) -> Option<Option<&Vec<String>>> {
        let spot = self.spot(of).filter(|_| of.get("Var") != Some(&json!("action")))?;
        Some(spot.tags().get(text_of(name)?))
    }

    fn has_tag(&self, of: &Json, name: &Json) -> Option<bool> {
        self.tags(of, name).map(|tag| tag.is_some())
    }

    fn tag(&self, of: &Json, name: &Json) -> Option<Json> {
        let values = self.tags(of, name)??;
        Some(json!({"Set": values.iter().map(|value| json!({"Value": value})).collect::<Vec<_>>()}))
    }

    fn attribute(&self, operands: &Json) -> Option<Json> {
        let attributes = self.attributes.filter(|_| is_principal(operands.get("left")))?;
        attributes.get(operands.get("attr")?.as_str()?).map(|value| json!({"Value": value}))
    }

    fn has_attribute(&self, operands: &Json) -> Option<bool> {
        let attributes = self.attributes.filter(|_| is_principal(operands.get("left")))?;
        let attribute = operands.get("attr")?;
        let name = attribute.as_str().or_else(|| match attribute.as_array().map(Vec::as_slice) {
            Some([only]) => only.as_str(),
            _ => None,
        })?;
        Some(attributes.contains_key(name))
    }
}

fn is_principal(tree: Option<&Json>) -> bool {
    tree.and_then(|tree| tree.get("Var")) == Some(&json!("principal"))
}

fn list(tree: &Json) -> impl Iterator<Item = &Json> {
    tree.as_array().into_iter().flatten()
}

fn entity(tree: &Json) -> Option<(&str, &str)> {
    let uid = tree.pointer("/Value/__entity")?;
    Some((uid.get("type")?.as_str()?, uid.get("id")?.as_str()?))
}

/// One entity, or a set of some.
fn entities(tree: &Json) -> Option<Vec<(&str, &str)>> {
    match tree.get("Set") {
        Some(set) => set.as_array()?.iter().map(entity).collect(),
        None => entity(tree).map(|one| vec![one]),
    }
}

fn text_of(tree: &Json) -> Option<&str> {
    tree.get("Value")?.as_str()
}
