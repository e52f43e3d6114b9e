//! A plan, for people and for programs.

use serde_json::{Value as Json, json};

use super::{Change, Decided, Plan, Unproved};

impl Plan {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (title, changes) in [("becomes allowed", &self.grows), ("no longer allowed", &self.shrinks)] {
            if changes.is_empty() {
                continue;
            }
            text.push_str(&format!("{title}\n"));
            changes.iter().for_each(|change| text.push_str(&change.text()));
        }
        if !self.unproved.is_empty() {
            text.push_str("not proved\n");
            self.unproved.iter().for_each(|unproved| text.push_str(&unproved.text()));
        }
        text.push_str(match (self.grows(), self.is_proved()) {
            (true, _) => "access grows\n",
            (false, true) => "access does not grow\n",
            (false, false) => "it is not proved that access does not grow\n",
        });
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Json {
        let verdict = match (self.grows(), self.is_proved()) {
            (true, _) => "grows",
            (false, true) => "does_not_grow",
            (false, false) => "not_proved",
        };
        let changes = |changes: &[Change]| changes.iter().map(Change::json).collect::<Vec<_>>();
        let unproved: Vec<Json> = self.unproved.iter().map(Unproved::json).collect();
        json!({"verdict": verdict, "grows": changes(&self.grows), "shrinks": changes(&self.shrinks), "not_proved": unproved,
               "compared": self.compared, "asked": self.asked})
    }
}

impl Change {
    fn text(&self) -> String {
        let mut text = format!(
            "  {} on {}\n      {} as {}\n",
            several(&self.actions),
            self.resource_type,
            self.request,
            self.principal
        );
        if !self.context.is_empty() {
            let facts: Vec<String> = self.context.iter().map(|(name, value)| format!("{name} {value}")).collect();
            text.push_str(&format!("      with {}\n", facts.join(", ")));
        }
        text.push_str(&format!("      before {}, after {}\n", self.old.text(), self.new.text()));
        text
    }

    /// Of policies that are compared with no others.
    pub(in crate::analysis) fn witness_json(&self) -> Json {
        json!({"actions": self.actions, "resource_type": self.resource_type, "request": self.request, "principal": self.principal,
               "resource": self.resource, "context": self.context, "outcome": self.new.outcome.as_str(),
               "policies": self.new.policies})
    }

    fn json(&self) -> Json {
        json!({"actions": self.actions, "resource_type": self.resource_type, "request": self.request, "principal": self.principal,
               "resource": self.resource, "context": self.context, "old": self.old.json(), "new": self.new.json()})
    }
}

impl Decided {
    pub(in crate::analysis) fn text(&self) -> String {
        let by = if self.policies.is_empty() { String::new() } else { format!(" by {}", self.policies.join(", ")) };
        format!("{}{by}", self.outcome)
    }

    fn json(&self) -> Json {
        json!({"outcome": self.outcome.as_str(), "policies": self.policies})
    }
}

impl Unproved {
    fn text(&self) -> String {
        let more = if self.count > 1 { format!(", and {} more like it", self.count - 1) } else { String::new() };
        format!(
            "  {} on {}: whether it {}\n      {} as {}{more}\n      hangs on {}\n      {}\n",
            several(&self.actions),
            self.resource_type,
            if self.grows { "becomes allowed" } else { "is no longer allowed" },
            self.resource,
            self.principal,
            self.policies.join(", "),
            self.why,
        )
    }

    pub(in crate::analysis) fn json(&self) -> Json {
        json!({"direction": if self.grows { "grows" } else { "shrinks" }, "actions": self.actions, "resource_type": self.resource_type,
               "principal": self.principal, "resource": self.resource, "policies": self.policies, "why": self.why, "count": self.count})
    }
}

/// The first of many.
pub(in crate::analysis) fn several(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}
