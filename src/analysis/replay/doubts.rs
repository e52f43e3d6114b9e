//! What keeps a recorded question from being asked exactly as it was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::Run;
use crate::analysis::Question;
use crate::analysis::records::{Recorded, hides, placed_in};
use crate::mapping::TagsRead;
use crate::policy::{Given, Principal};

impl Run<'_> {
    /// Why the question is not exactly the one that was asked then.
    pub(super) fn doubts(&self, record: &Json, recorded: &Recorded, principal: &Principal) -> Vec<&'static str> {
        let mut doubts = Vec::new();
        let hidden = recorded.questions.iter().any(|Question { context, .. }| {
            let claims = context.get("token").and_then(|token| token.get("claims"));
            hides(context.get("headers"), self.policies.headers_read().all)
                || hides(claims, self.policies.claims_read())
        });
        if hidden {
            doubts.push("these policies read headers or claims whose values are redacted");
        }
        if recorded.questions.iter().any(|question| !question.context.contains_key("direction")) {
            doubts.push("an older record, which does not hold the whole question");
        }
        let then: Vec<&str> = record
            .get("principal_in")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let now: Vec<&str> = principal.given().iter().map(|given| &**given).collect();
        let tags = record.get("principal_tags").cloned().unwrap_or_else(|| json!({}));
        if then != now || tags != json!(principal.tags()) {
            doubts.push("entities.json says something else of the workload than it did then");
        }
        let is_same = recorded.policy_digest.as_deref() == Some(self.policies.digest());
        let headers = !is_same
            && recorded.questions.iter().any(|question| match self.policies.headers_read().all {
                TagsRead::All => question.context.contains_key("headers"),
                TagsRead::Only(names) => match question.context.get("headers").and_then(Json::as_object) {
                    Some(known) => names.iter().any(|name| !known.contains_key(&**name)),
                    None => false,
                },
            });
        if headers {
            doubts.push("these policies read headers that the record does not hold");
        }
        let mut tokens = recorded.questions.iter().filter_map(|question| question.context.get("token"));
        let claims = !is_same
            && tokens.any(|token| {
                let known = token.get("claims").and_then(Json::as_object);
                match self.policies.claims_read() {
                    TagsRead::All => true,
                    TagsRead::Only(names) => {
                        names.iter().any(|name| known.is_none_or(|known| !known.contains_key(&**name)))
                    }
                }
            });
        if claims {
            doubts.push("these policies read claims of tokens that the record does not hold");
        }
        let each = match record.get("operations").and_then(Json::as_array) {
            Some(operations) => operations.iter().collect(),
            None => vec![record],
        };
        if each.into_iter().zip(&recorded.questions).any(|(of, question)| !self.is_placed_alike(of, question)) {
            doubts.push("entities.json says something else of the resource than it did then");
        }
        doubts
    }

    /// Whether entities.json puts the resource where it was, with the same tags.
    fn is_placed_alike(&self, of: &Json, question: &Question) -> bool {
        let resource = question.resource.as_deref().and_then(|id| question.placed(id).ok());
        let given = resource.as_ref().and_then(|resource| self.policies.given(resource));
        let now = given.iter().flat_map(Given::groups);
        let now: BTreeSet<String> = now.map(|(kind, id)| format!("{kind}::\"{}\"", id.escape_debug())).collect();
        let then: BTreeSet<String> =
            placed_in(of).filter(|above| !above.starts_with("Table::")).map(str::to_owned).collect();
        let tags: BTreeMap<&str, &[String]> = given.iter().flat_map(Given::tags).collect();
        let recorded = of.get("resource_tags").cloned().unwrap_or_else(|| json!({}));
        now == then && recorded == json!(tags)
    }
}
