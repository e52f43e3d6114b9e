//! What conditions still read once they are reduced.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{Body, Residual};

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
