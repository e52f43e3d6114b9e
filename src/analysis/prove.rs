//! Whether policies keep to their invariants.
//!
//! An invariant is a set of policies of its own, which the policies are compared with: under a `never` they must allow nothing that it
//! forbids, under an `always` everything that it permits. What `plan` does for two directories is done here for both.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::plan::cells::{Comparison, Wanted};
use super::plan::classes::{Named, Sides};
use super::plan::report::several;
use super::plan::{Change, Solver, Unproved, settle};
use crate::policy::{Invariant, Invariants, PolicyGeneration, Says};

/// Most witnesses of one invariant that are shown to people.
const MAX_SHOWN: usize = 3;

/// All invariants of a directory, and what is known of each.
#[derive(Debug)]
pub struct Proving {
    /// In the order of the file.
    pub results: Vec<Proved>,
    /// How many questions the solver was asked.
    pub asked: usize,
    /// How long it took.
    pub took: Duration,
}

/// What is known of an invariant.
#[derive(Debug)]
pub struct Proved {
    /// Its name.
    pub name: String,
    /// Why it is there.
    pub reason: Option<String>,
    /// `never` or `always`.
    pub says: Says,
    /// `FILE:LINE`
    pub place: String,
    /// Whether the policies keep to it.
    pub verdict: Verdict,
}

/// Whether policies keep to an invariant.
#[derive(Debug)]
pub enum Verdict {
    /// They do.
    Proved {
        /// It is about nothing that anybody could ask, so that any policies would.
        vacuous: bool,
    },
    /// They do not: requests of which the policies have been asked.
    Refuted(Vec<Change>),
    /// It is not known.
    NotProved(Vec<Unproved>),
}

/// Holds policies against their invariants.
///
/// # Errors
/// A policy cannot be had in Cedar's JSON form.
pub fn prove(policies: &PolicyGeneration, invariants: &Invariants, solver: &Solver) -> Result<Proving, String> {
    let began = Instant::now();
    let new = policies.survey()?;
    let stated = invariants.invariants();
    let surveys = stated.iter().map(|invariant| invariant.policies.survey()).collect::<Result<Vec<_>, _>>()?;
    let mut comparisons: Vec<Comparison<'_>> = Vec::with_capacity(stated.len());
    for (invariant, old) in stated.iter().zip(&surveys) {
        let sides = Sides { old, new: &new };
        let directions = if invariant.says == Says::Never { &[true] } else { &[false] };
        let mut comparison = Comparison::new(sides, Wanted { directions, about: Some(&invariant.name) });
        comparison.compare(&Named::of(sides));
        comparisons.push(comparison);
    }
    let asked = settle(&mut comparisons, solver);
    let results = stated.iter().zip(comparisons).map(|(invariant, found)| Proved::of(invariant, invariants, found));
    Ok(Proving { results: results.collect(), asked, took: began.elapsed() })
}

impl Proved {
    fn of(invariant: &Invariant, of: &Invariants, found: Comparison<'_>) -> Self {
        let vacuous = !found.stands();
        let plan = found.finish();
        let witnesses = if invariant.says == Says::Never { plan.grows } else { plan.shrinks };
        let verdict = match (witnesses.is_empty(), plan.unproved.is_empty()) {
            (false, _) => Verdict::Refuted(witnesses),
            (true, false) => Verdict::NotProved(plan.unproved),
            (true, true) => Verdict::Proved { vacuous },
        };
        Self {
            name: invariant.name.to_string(),
            reason: invariant.reason.clone(),
            says: invariant.says,
            place: format!("{}:{}", of.file(), invariant.line),
            verdict,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{:<10}  {}  ({})\n", self.verdict.as_str().replace('_', " "), self.name, self.place);
        let shown = match &self.verdict {
            Verdict::Proved { vacuous: false } => return text,
            Verdict::Proved { vacuous: true } => {
                "nobody could ask anything that it is about, so it holds of any policies: look at its names\n"
                    .to_owned()
            }
            Verdict::Refuted(witnesses) => {
                let mut shown: String = witnesses.iter().take(MAX_SHOWN).map(|witness| self.witness(witness)).collect();
                if witnesses.len() > MAX_SHOWN {
                    shown.push_str(&format!("and {} more: `--output json` has them\n", witnesses.len() - MAX_SHOWN));
                }
                shown
            }
            Verdict::NotProved(open) => open.iter().take(MAX_SHOWN).map(unproved).collect(),
        };
        let reason = self.reason.as_ref().map(|reason| format!("reason: {}\n", reason.trim_end()));
        for line in reason.iter().chain([&shown]).flat_map(|part| part.lines()) {
            text.push_str(&format!("            {line}\n"));
        }
        text
    }

    fn witness(&self, witness: &Change) -> String {
        let facts: Vec<String> = witness.context.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let facts = if facts.is_empty() { String::new() } else { format!("  with {}\n", facts.join(", ")) };
        let mut is = witness.new.text();
        // What the invariant itself fails at is no fault of the policies.
        if self.says == Says::Never && witness.old.outcome == crate::policy::Outcome::Error {
            is.push_str(", and the invariant's own condition fails of it");
        }
        format!("{} as {}\n{facts}  is {is}\n", witness.request, witness.principal)
    }

    fn json(&self) -> Json {
        let mut json = json!({"name": self.name, "reason": self.reason, "says": self.says.as_str(), "place": self.place,
                              "verdict": self.verdict.as_str()});
        let more = match &self.verdict {
            Verdict::Proved { vacuous } => ("vacuous", json!(vacuous)),
            Verdict::Refuted(witnesses) => ("witnesses", witnesses.iter().map(Change::witness_json).collect()),
            Verdict::NotProved(open) => ("not_proved", open.iter().map(Unproved::json).collect()),
        };
        if let Some(fields) = json.as_object_mut() {
            fields.insert(more.0.to_owned(), more.1);
        }
        json
    }
}

fn unproved(open: &Unproved) -> String {
    let more = if open.count > 1 { format!(", and {} more like it", open.count - 1) } else { String::new() };
    let on = if open.policies.is_empty() { "nothing".to_owned() } else { open.policies.join(", ").replace('\n', "") };
    format!(
        "{} of {} as {}{more}\n  hangs on {}\n  {}\n",
        several(&open.actions),
        open.resource,
        open.principal,
        on.trim_start_matches(", "),
        open.why
    )
}

impl Verdict {
    /// `proved`, `refuted`, `not_proved`
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Proved { .. } => "proved",
            Self::Refuted(_) => "refuted",
            Self::NotProved(_) => "not_proved",
        }
    }
}

impl Proving {
    /// `proved` if all are, `refuted` if any is, else `not_proved`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        let any = |wanted: &str| self.results.iter().any(|result| result.verdict.as_str() == wanted);
        match (any("refuted"), any("not_proved")) {
            (true, _) => "refuted",
            (false, true) => "not_proved",
            (false, false) => "proved",
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text: String = self.results.iter().map(Proved::text).collect();
        let count = |wanted: &str| self.results.iter().filter(|result| result.verdict.as_str() == wanted).count();
        let (all, proved) = (self.results.len(), count("proved"));
        text.push_str(&match (count("refuted"), count("not_proved")) {
            (0, 0) if all == 1 => "the invariant is proved\n".to_owned(),
            (0, 0) => format!("all {all} invariants are proved\n"),
            (refuted, open) => {
                format!("{proved} of {all} invariants are proved, {refuted} refuted, {open} not proved\n")
            }
        });
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Json {
        let results: Vec<Json> = self.results.iter().map(Proved::json).collect();
        json!({"verdict": self.verdict(), "invariants": results, "asked": self.asked, "seconds": self.took.as_secs_f64()})
    }
}
