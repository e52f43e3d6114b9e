//! What does not follow from scopes and entities is asked: of the policies with a few requests, then of the solver.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::walk::{Kind, Open, Walk};
use crate::analysis::plan::Solver;
use crate::analysis::plan::residual::Residual;
use crate::analysis::plan::solver::{Answer, Query, ask};
use crate::analysis::plan::witness::{Cell, contexts, posed, requests};
use crate::identity::SpiffeId;
use crate::policy::{Outcome, Survey};

/// What came of a question about a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// There is a request that shows it.
    Found,
    /// There is none.
    Never,
    /// It is not known.
    Unknown(String),
}

/// Whether a few requests of this class show that the policy decides.
pub(super) fn is_decided_by(survey: &Survey<'_>, id: &str, cell: &Cell<'_>, residuals: &[Residual]) -> bool {
    let shows = |context: &Map<String, Json>| shows(survey, Kind::Decides, id, cell, &cell.principal.id, context);
    contexts(residuals.iter()).iter().any(shows)
}

/// Whether the policies themselves say so of a request.
fn shows(
    survey: &Survey<'_>,
    kind: Kind,
    id: &str,
    cell: &Cell<'_>,
    principal: &SpiffeId,
    context: &Map<String, Json>,
) -> bool {
    let Some((operation, facts)) = posed(cell, context) else { return false };
    let generation = survey.generation();
    let matches = || {
        let trace = generation.trace(principal, &operation, &facts).ok()?;
        trace.policies.into_iter().find(|traced| *traced.policy.id == *id)?.matches.ok()
    };
    let decision = || generation.decide(&generation.principal(principal), &operation, &facts);
    match kind {
        Kind::Matches => matches() == Some(true),
        Kind::Bounded | Kind::Narrowed => matches() == Some(false),
        Kind::Decides => {
            let decision = decision();
            decision.outcome != Outcome::Error && decision.policies.iter().any(|by| **by == *id)
        }
        Kind::Errs => {
            let decision = decision();
            decision.outcome == Outcome::Error && decision.policies.iter().any(|by| **by == *id)
        }
    }
}

impl Walk<'_> {
    /// Asks the solver what is open.
    pub(super) fn settle(&mut self, solver: &Solver) {
        for look in &mut self.looks {
            let decides = look.decides;
            look.open.retain(|(kind, _), _| !(decides && matches!(kind, Kind::Decides | Kind::Matches)));
        }
        self.round(solver, |kind| kind != Kind::Matches);
        // Whether it matches matters where it decides nothing.
        for look in &mut self.looks {
            if look.verdicts.get(&Kind::Decides) != Some(&Asked::Never) {
                look.open.retain(|(kind, _), _| *kind != Kind::Matches);
            }
        }
        self.round(solver, |kind| kind == Kind::Matches);
    }

    fn round(&mut self, solver: &Solver, is_asked: impl Fn(Kind) -> bool) {
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut queries: Vec<Query> = Vec::new();
        for ((kind, key), open) in
            self.looks.iter().flat_map(|look| &look.open).filter(|((kind, _), _)| is_asked(*kind))
        {
            numbers.entry(format!("{} {key}", *kind == Kind::Errs)).or_insert_with(|| {
                queries.push(open.query.clone());
                queries.len() - 1
            });
        }
        let answers = ask(&queries, solver);
        let mut looks = std::mem::take(&mut self.looks);
        for (look, surveyed) in looks.iter_mut().zip(self.survey.policies()) {
            let mut wide = Vec::new();
            for ((kind, key), open) in look.open.iter().filter(|((kind, _), _)| is_asked(*kind)) {
                let number = numbers.get(&format!("{} {key}", *kind == Kind::Errs));
                let Some(answer) = number.and_then(|number| answers.get(*number)) else { continue };
                let asked = self.answered(*kind, &surveyed.id, open, answer);
                if *kind == Kind::Narrowed && asked == Asked::Never {
                    wide.push(open.grant.clone());
                }
                let known = look.verdicts.remove(kind);
                look.verdicts.insert(*kind, both(known, asked));
            }
            wide.iter().for_each(|grant| look.found_wide(grant));
        }
        self.looks = looks;
    }

    fn answered(&self, kind: Kind, id: &str, open: &Open, answer: &Answer) -> Asked {
        let (context, entities) = match answer {
            Answer::Holds => return Asked::Never,
            Answer::Unknown(why) => return Asked::Unknown(why.clone()),
            Answer::Refuted { context, entities } => (context, entities),
        };
        let (Some(action), Some(principal)) = (self.actions.get(open.action), self.principals.get(open.principal))
        else {
            return Asked::Unknown("the question is lost".to_owned());
        };
        let cell = Cell { action: &action.names, principal, resource: &open.resource };
        let fits = requests(&cell, &open.query, (context, entities)).is_some_and(|(ids, context)| {
            ids.iter().any(|principal| shows(self.survey, kind, id, &cell, principal, &context))
        });
        if fits { Asked::Found } else { Asked::Unknown("the solver's answer fits no real request".to_owned()) }
    }
}

/// One request is enough.
fn both(known: Option<Asked>, more: Asked) -> Asked {
    match (known, more) {
        (Some(Asked::Found), _) | (_, Asked::Found) => Asked::Found,
        (Some(Asked::Unknown(why)), _) | (_, Asked::Unknown(why)) => Asked::Unknown(why),
        _ => Asked::Never,
    }
}
