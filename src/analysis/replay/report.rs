//! A replay as it is read.

use serde_json::{Value as Json, json};

use super::Replay;
use crate::analysis::counted;

impl Replay {
    /// Whether anything is allowed that was not.
    #[must_use]
    pub fn grows(&self) -> bool {
        self.flips.iter().any(|flip| flip.would_be.is_allowed())
    }

    /// Why it is not known of all that was recorded whether it is allowed.
    #[must_use]
    pub fn left_open(&self) -> Vec<String> {
        let mut open = Vec::new();
        if self.decided == 0 {
            open.push("no recorded decision was asked again".to_owned());
        }
        if self.unasked > 0 {
            open.push(format!("{} could not be asked", counted(self.unasked, "recorded decision")));
        }
        match self.broken {
            0 => {}
            1 => open.push("1 line is no record".to_owned()),
            several => open.push(format!("{several} lines are no records")),
        }
        open
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let (grows, shrinks): (Vec<_>, Vec<_>) = self.flips.iter().partition(|flip| flip.would_be.is_allowed());
        for (title, flips) in [("would become allowed", grows), ("would no longer be allowed", shrinks)] {
            if flips.is_empty() {
                continue;
            }
            text.push_str(&format!("{title}\n"));
            for flip in flips {
                let by = |policies: &[String]| {
                    if policies.is_empty() { String::new() } else { format!(" by {}", policies.join(", ")) }
                };
                let would_be_by: Vec<String> = flip.would_be_by.iter().map(ToString::to_string).collect();
                text.push_str(&format!(
                    "  {:>8}  {} {} {}\n            then {}{}, now {}{}; last {}{}\n",
                    flip.count,
                    flip.who,
                    flip.action,
                    flip.resource,
                    flip.outcome,
                    by(&flip.policies),
                    flip.would_be,
                    by(&would_be_by),
                    flip.example,
                    if flip.inexact { "; not exact" } else { "" },
                ));
            }
        }
        if self.flips.is_empty() && self.decided > 0 {
            text.push_str("no recorded request is decided otherwise\n");
        }
        let (decided, skipped) = (counted(self.decided, "decision"), counted(self.skipped, "record"));
        text.push_str(&format!("{decided} asked again, {skipped} of something else\n"));
        for (reason, count) in &self.inexact {
            text.push_str(&format!("not exact: {reason} ({count})\n"));
        }
        if self.sampled > 0 {
            text.push_str(&format!(
                "sampled: the {decided} stand for about {:.0}; requests that were allowed and not recorded are not asked again\n",
                self.stands_for
            ));
        }
        text.extend(self.left_open().iter().map(|why| format!("not proved: {why}\n")));
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Json {
        let flips = self.flips.iter().map(|flip| {
            json!({"who": flip.who, "action": flip.action, "resource": flip.resource, "outcome": flip.outcome, "policies": flip.policies,
                   "would_be": flip.would_be.as_str(), "would_be_by": flip.would_be_by, "count": flip.count, "example": flip.example,
                   "exact": !flip.inexact})
        });
        let inexact = self.inexact.iter().map(|(reason, count)| json!({"reason": reason, "count": count}));
        json!({"decided": self.decided, "skipped": self.skipped, "unasked": self.unasked, "sampled": self.sampled, "broken": self.broken, "stands_for": self.stands_for,
               "flips": flips.collect::<Vec<_>>(), "inexact": inexact.collect::<Vec<_>>(), "not_proved": self.left_open()})
    }
}
