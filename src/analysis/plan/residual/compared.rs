//! What conditions hold the context against.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{Body, Residual, list};

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
