//! What is left of a policy's conditions once it is known who asks and about what.
//!
//! Everything that conditions can ask of a principal's, action's or resource's place (`in`, `==`, `is`, tags) is the same for all
//! members of a class, so it is decided here. What is left reads the context, and attributes of the principal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value as Json, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

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

pub(in crate::analysis) fn truth(value: bool) -> Json {
    json!({"Value": value})
}

fn as_bool(tree: &Json) -> Option<bool> {
    tree.get("Value")?.as_bool()
}

fn and(left: Json, right: Json) -> Json {
    match (as_bool(&left), as_bool(&right)) {
        (Some(false), _) => left,
        (Some(true), _) => right,
        (None, Some(true)) => left,
        // What may fail has to be seen to fail.
        (None, Some(false)) if !may_err(&left) => right,
        _ => json!({"&&": {"left": left, "right": right}}),
    }
}

fn or(left: Json, right: Json) -> Json {
    match (as_bool(&left), as_bool(&right)) {
        (Some(true), _) => left,
        (Some(false), _) => right,
        (None, Some(false)) => left,
        (None, Some(true)) if !may_err(&left) => right,
        _ => json!({"||": {"left": left, "right": right}}),
    }
}

fn not(arg: Json) -> Json {
    as_bool(&arg).map_or_else(|| json!({"!": {"arg": arg}}), |value| truth(!value))
}

/// `like`, of Cedar's patterns: texts and `"Wildcard"`s.
fn like(text: &str, pattern: &Json) -> Option<bool> {
    let mut parts = Vec::new();
    for part in pattern.as_array()? {
        parts.push(match part {
            Json::String(wildcard) if wildcard == "Wildcard" => None,
            part => Some(part.get("Literal")?.as_str()?),
        });
    }
    Some(fits(text, &parts))
}

fn fits(text: &str, parts: &[Option<&str>]) -> bool {
    match parts.split_first() {
        None => text.is_empty(),
        Some((Some(literal), rest)) => text.strip_prefix(literal).is_some_and(|text| fits(text, rest)),
        Some((None, rest)) => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| text.get(at..).is_some_and(|text| fits(text, rest)))
        }
    }
}

/// Whether an evaluation can fail: of what passes validation only arithmetic, where it leaves its range.
pub(in crate::analysis) fn may_err(tree: &Json) -> bool {
    const ARITHMETIC: [&str; 7] = ["+", "-", "*", "neg", "offset", "durationSince", "toDate"];
    match tree {
        Json::Object(fields) => fields.iter().any(|(operator, operands)| {
            operator != "Value" && (ARITHMETIC.contains(&operator.as_str()) || may_err(operands))
        }),
        Json::Array(items) => items.iter().any(may_err),
        _ => false,
    }
}

/// What a condition still reads.
#[derive(Debug, Default, Clone)]
pub(in crate::analysis) struct Left {
    pub(in crate::analysis) context: BTreeSet<String>,
    pub(in crate::analysis) whole_context: bool,
    /// Attributes of the principal.
    pub(in crate::analysis) principal: bool,
    /// Something that is not decided by class, and that a solver would take for anything: entities, the resource itself.
    pub(in crate::analysis) strange: bool,
}

impl Left {
    pub(in crate::analysis) fn of<'a>(residuals: impl IntoIterator<Item = &'a Residual>) -> Self {
        let mut left = Self::default();
        for residual in residuals {
            if let Body::Open(tree) = &residual.body {
                left.walk(tree);
            }
        }
        left
    }

    fn walk(&mut self, tree: &Json) {
        match tree {
            Json::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Json::Object(fields) => fields.iter().for_each(|(operator, operands)| self.operator(operator, operands)),
            _ => {}
        }
    }

    fn operator(&mut self, operator: &str, operands: &Json) {
        let left = operands.pointer("/left/Var").and_then(Json::as_str);
        let attribute = operands.get("attr");
        let attribute = attribute.and_then(|name| name.get(0).unwrap_or(name).as_str());
        match (operator, left, attribute) {
            ("." | "has", Some("context"), Some(name)) => {
                self.context.insert(name.to_owned());
            }
            ("." | "has", Some("principal"), Some(_)) => self.principal = true,
            ("Var", ..) if operands == "context" => self.whole_context = true,
            ("Var" | "Slot", ..) => self.strange = true,
            ("Value", ..) => self.strange |= operands.get("__entity").is_some(),
            ("Record", ..) => operands.as_object().into_iter().flatten().for_each(|(_, field)| self.walk(field)),
            _ => self.walk(operands),
        }
    }
}

/// The values that conditions hold context attributes against, and those beside them, to be tried: each as JSON.
pub(in crate::analysis) fn compared<'a>(
    residuals: impl IntoIterator<Item = &'a Residual>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for residual in residuals {
        if let Body::Open(tree) = &residual.body {
            compare(tree, &mut found);
        }
    }
    found
}

fn compare(tree: &Json, found: &mut BTreeMap<String, BTreeSet<String>>) {
    match tree {
        Json::Array(items) => items.iter().for_each(|item| compare(item, found)),
        Json::Object(fields) => {
            for operands in fields.values() {
                // Methods of extension types have lists of operands, operators have named ones.
                let named = operands.as_object().into_iter().flatten().map(|(_, part)| part);
                let parts: Vec<&Json> = named.chain(list(operands)).collect();
                for name in parts.iter().filter_map(|part| attribute_in(part)) {
                    let set = parts.iter().filter_map(|part| part.get("Set")).flat_map(list);
                    let values = parts.iter().copied().chain(set).flat_map(values);
                    found.entry(name.to_owned()).or_default().extend(values.map(|value| value.to_string()));
                }
                compare(operands, found);
            }
        }
        _ => {}
    }
}

/// The context attribute that this is, or that its time of day or date is of.
fn attribute_in(part: &Json) -> Option<&str> {
    if let Some(of) = part.get("toTime").or(part.get("toDate")) {
        return attribute_in(of.get(0)?);
    }
    let attribute = part.get(".")?;
    (attribute.pointer("/left/Var")? == "context").then(|| attribute.get("attr")?.as_str())?
}

/// The values at and beside a literal.
fn values(part: &Json) -> Vec<Json> {
    let written = |function: &str| part.get(function)?.get(0)?.pointer("/Value")?.as_str();
    if let Some(network) = written("ip") {
        return network.split('/').next().map(|address| json!(address)).into_iter().collect();
    }
    let moment = match (written("datetime"), written("duration")) {
        (Some(moment), _) if moment.contains('T') => OffsetDateTime::parse(moment, &Rfc3339).ok(),
        (Some(day), _) => OffsetDateTime::parse(&format!("{day}T00:00:00Z"), &Rfc3339).ok(),
        (None, Some(duration)) => time_of_day(duration),
        (None, None) => None,
    };
    if let Some(moment) = moment {
        let beside = [-1, 0, 1].map(|millis| moment.checked_add(Duration::milliseconds(millis))?.format(&Rfc3339).ok());
        return beside.into_iter().flatten().map(Json::String).collect();
    }
    match part.get("Value") {
        Some(value) if value.is_string() || value.is_boolean() => vec![value.clone()],
        Some(value) => {
            let beside = |number: i64| [number.checked_sub(1), Some(number), number.checked_add(1)];
            value.as_i64().map(beside).into_iter().flatten().flatten().map(|number| json!(number)).collect()
        }
        None => Vec::new(),
    }
}

/// A day of which so much is over: `8h30m`.
fn time_of_day(duration: &str) -> Option<OffsetDateTime> {
    let mut rest = duration;
    let mut millis = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at_checked(digits)?;
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let (name, factor) = units.into_iter().find(|(name, _)| unit.starts_with(name))?;
        millis = millis.checked_add(number.parse::<i64>().ok()?.checked_mul(factor)?)?;
        rest = unit.strip_prefix(name)?;
    }
    // A Monday.
    let day = OffsetDateTime::parse("2026-01-05T00:00:00Z", &Rfc3339).ok()?;
    day.checked_add(Duration::milliseconds(millis))
}

/// What every real request's context keeps to.
pub(in crate::analysis) struct ContextAssumed;

impl ContextAssumed {
    /// Of what is read.
    pub(in crate::analysis) fn of(left: &Left) -> Vec<String> {
        const KNOWN: [(&str, &str); 3] = [
            // Cedar knows later ones, but no text that says them.
            (
                "now",
                "context.now >= datetime(\"1970-01-01T00:00:00Z\") && context.now <= datetime(\"9999-12-31T23:59:59Z\")",
            ),
            ("direction", "[\"inbound\", \"outbound\"].contains(context.direction)"),
            ("contentLength", "if context has contentLength then context.contentLength >= 0 else true"),
        ];
        let is_read = |name: &&(&str, &str)| left.context.contains(name.0);
        KNOWN.iter().filter(is_read).map(|(_, assumed)| (*assumed).to_owned()).collect()
    }
}
