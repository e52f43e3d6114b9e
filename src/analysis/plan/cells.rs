//! Goes through all classes of questions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::classes::{Named, PrincipalClass, ResourceClass, Sides};
use super::partitions::{Differs, partitions};
use super::residual::{Body, ContextAssumed, Left, Place, Residual, may_err};
use super::solver::{Answer, Query};
use super::witness::{Cell, Witness, in_model, without_solver};
use super::{Change, Decided, Plan, Unproved};
use crate::mapping::ResourceKind;
use crate::policy::{Survey, Surveyed, SurveyedAction};

/// So many classes of questions that hang on the same are asked of the policies themselves: all of them have the same answer.
const MAX_ANSWERED: usize = 50;

/// What is known of a cell without a solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::analysis) enum Verdict {
    /// Nothing is allowed that the other side does not allow.
    Within,
    /// Something is, whatever the context.
    Beyond,
    /// It hangs on conditions.
    Open,
}

/// Actions that no policy tells apart, about resources of one kind.
#[derive(Debug)]
pub(in crate::analysis) struct ActionClass {
    pub(in crate::analysis) names: Vec<String>,
    pub(in crate::analysis) kind: ResourceKind,
    pub(in crate::analysis) old: SurveyedAction,
    new: SurveyedAction,
}

/// A cell that hangs on conditions.
#[derive(Debug)]
pub(in crate::analysis) struct OpenCell {
    action: usize,
    principal: usize,
    resource: Arc<ResourceClass>,
    grows: bool,
}

/// All cells of one action and one principal.
#[derive(Debug)]
struct Row {
    at: (usize, usize),
    /// Both sides know the same of all entities.
    knows_the_same: bool,
    /// What was found, by the policies that match.
    seen: HashMap<(Vec<usize>, Vec<usize>), Differs>,
}

/// What of a comparison is wanted.
#[derive(Debug, Clone, Copy)]
pub(in crate::analysis) struct Wanted<'a> {
    /// Growth, and its contrary.
    pub(in crate::analysis) directions: &'static [bool],
    /// Only where this policy of the old side stands.
    pub(in crate::analysis) about: Option<&'a str>,
}

impl Wanted<'_> {
    /// Everything.
    pub(in crate::analysis) const ALL: Self = Self { directions: &[true, false], about: None };

    fn has(&self, policies: &[&Surveyed]) -> bool {
        self.about.is_none_or(|id| policies.iter().any(|policy| *policy.id == *id))
    }
}

/// Both generations, and what was found so far.
#[derive(Debug)]
pub(in crate::analysis) struct Comparison<'a> {
    sides: Sides<'a>,
    wanted: Wanted<'a>,
    /// The policy that the comparison is about stands somewhere.
    stands: bool,
    plan: Plan,
    actions: Vec<ActionClass>,
    principals: Vec<PrincipalClass>,
    resources: BTreeMap<ResourceKind, Vec<Arc<ResourceClass>>>,
    open: HashMap<String, (Query, Vec<OpenCell>)>,
    unproved: BTreeMap<(bool, usize, Vec<String>, String), Unproved>,
    changes: BTreeMap<ChangeKey, (bool, Change)>,
    settled: HashSet<Settled>,
}

/// Growth, action, the principal if its attributes matter, and what is left on both sides: what has been shown of it holds wherever that is.
type Settled = (bool, usize, Option<usize>, Vec<String>, Vec<String>);

/// Growth, action, and who decides before and after: one witness is enough for each.
type ChangeKey = (bool, usize, Vec<String>, Vec<String>);

impl<'a> Comparison<'a> {
    pub(in crate::analysis) fn new(sides: Sides<'a>, wanted: Wanted<'a>) -> Self {
        Self {
            sides,
            wanted,
            stands: false,
            plan: Plan::default(),
            actions: Vec::new(),
            principals: Vec::new(),
            resources: BTreeMap::new(),
            open: HashMap::new(),
            unproved: BTreeMap::new(),
            changes: BTreeMap::new(),
            settled: HashSet::new(),
        }
    }

    /// Compares all cells.
    pub(in crate::analysis) fn compare(&mut self, named: &Named) {
        let knows_the_same = self.sides.old.knows_the_same(self.sides.new);
        self.actions = action_classes(self.sides);
        self.principals = named.principals(self.sides);
        for kind in self.actions.iter().map(|action| action.kind).collect::<BTreeSet<_>>() {
            self.resources.insert(kind, named.resources(self.sides, kind));
        }
        let actions = std::mem::take(&mut self.actions);
        let principals = std::mem::take(&mut self.principals);
        let resources = std::mem::take(&mut self.resources);
        for (action_at, action) in actions.iter().enumerate() {
            let of_kind = resources.get(&action.kind).map(Vec::as_slice).unwrap_or_default();
            for (principal_at, principal) in principals.iter().enumerate() {
                let old = self.sides.old.matching_some(&action.old.spot, &principal.old);
                if !self.wanted.has(&old) {
                    continue;
                }
                let new = self.sides.new.matching_some(&action.new.spot, &principal.new);
                if knows_the_same && senses(&old) == senses(&new) {
                    self.stands |= self.wanted.about.is_some();
                    self.plan.compared += of_kind.len() as u64;
                    continue;
                }
                let mut row = Row { at: (action_at, principal_at), knows_the_same, seen: HashMap::new() };
                let mut tables = Vec::new();
                for resource in of_kind {
                    self.plan.compared += 1;
                    let cell = Cell { action: &action.names, principal, resource };
                    let differs = self.cell(&cell, action, &mut row);
                    tables.push((Arc::clone(resource), differs));
                }
                if action.kind == ResourceKind::Table && tables.iter().any(|(_, differs)| differs.at_all) {
                    let speaks = old.iter().chain(&new).any(|policy| policy.speaks_of_resource);
                    let Some(partitions) = partitions(named, self.sides, &tables, speaks) else {
                        self.partitions_left_out(action_at, action);
                        continue;
                    };
                    for resource in &partitions {
                        self.plan.compared += 1;
                        let cell = Cell { action: &action.names, principal, resource };
                        self.cell(&cell, action, &mut row);
                    }
                }
            }
        }
        (self.actions, self.principals, self.resources) = (actions, principals, resources);
    }

    fn cell(&mut self, cell: &Cell<'_>, action: &ActionClass, row: &mut Row) -> Differs {
        let Cell { principal, resource, .. } = cell;
        let Sides { old, new } = self.sides;
        let old_found = old.matching(&action.old.spot, &principal.old, &resource.old, action.kind);
        let new_found = new.matching(&action.new.spot, &principal.new, &resource.new, action.kind);
        if old_found.is_empty() && new_found.is_empty() {
            return Differs::default();
        }
        // Partitions are told from how whole tables differ, wherever that is.
        if action.kind != ResourceKind::Table && !self.wanted.has(&old_found) {
            return Differs::default();
        }
        // Policies that ask nothing of the resource beside their scope say the same of all that they match.
        let place = |found: &[&Surveyed]| found.iter().map(|policy| Arc::as_ptr(&policy.sense).addr()).collect();
        let speak = old_found.iter().chain(&new_found).any(|policy| policy.speaks_of_resource);
        let seen_as: (Vec<usize>, Vec<usize>) = (place(&old_found), place(&new_found));
        if let Some(differs) = row.seen.get(&seen_as).filter(|_| !speak) {
            return *differs;
        }
        let differs = match row.knows_the_same && senses(&old_found) == senses(&new_found) {
            true => {
                self.stands |= self.wanted.about.is_some();
                Differs::default()
            }
            false => self.differing(cell, action, row.at, (&old_found, &new_found)),
        };
        row.seen.insert(seen_as, differs);
        differs
    }

    fn differing(
        &mut self,
        cell: &Cell<'_>,
        action: &ActionClass,
        at: (usize, usize),
        (old_found, new_found): (&[&Surveyed], &[&Surveyed]),
    ) -> Differs {
        let Cell { principal, resource, .. } = cell;
        let Sides { old, new } = self.sides;
        let place = |survey: &'a Survey<'a>, action, principal_spot, resource_spot, kind, found: &[&Surveyed]| {
            let attributes = principal.attributes.as_ref();
            let place = Place { survey, principal: principal_spot, action, resource: resource_spot, kind, attributes };
            found.iter().filter_map(|policy| place.residual(policy)).collect::<Vec<Residual>>()
        };
        let kind = action.kind;
        let old_left = place(old, &action.old.spot, &principal.old, &resource.old, kind, old_found);
        let new_left = place(new, &action.new.spot, &principal.new, &resource.new, kind, new_found);
        self.stands |= self.wanted.about.is_some_and(|id| old_left.iter().any(|policy| *policy.id == *id));
        for grows in self.wanted.directions.iter().copied() {
            let (granted, allowed) = if grows { (&new_left, &old_left) } else { (&old_left, &new_left) };
            match verdict(granted, allowed) {
                Verdict::Within => {}
                found @ (Verdict::Beyond | Verdict::Open) => {
                    self.beyond_or_open(cell, at, grows, (granted, allowed), found);
                }
            }
        }
        let differ = |permits: bool| bodies(&old_left, permits) != bodies(&new_left, permits);
        // A policy that errs denies, as a forbid does.
        let in_errors = old_left.iter().chain(&new_left).any(errs);
        Differs { at_all: differ(true) || differ(false), in_forbids: differ(false) || in_errors && differ(true) }
    }

    fn beyond_or_open(
        &mut self,
        cell: &Cell<'_>,
        at: (usize, usize),
        grows: bool,
        (granted, allowed): (&[Residual], &[Residual]),
        found: Verdict,
    ) {
        let (action_at, principal_at) = at;
        let settled = Left::of(granted.iter().chain(allowed)).principal.then_some(principal_at);
        let settled = (grows, action_at, settled, named_texts(granted), named_texts(allowed));
        if self.settled.contains(&settled) {
            return;
        }
        if let Some(witness) = without_solver(cell, self.sides, grows, granted, allowed) {
            self.change(action_at, cell, grows, &witness);
            self.settled.insert(settled);
            return;
        }
        let policies = policies(granted, allowed);
        if !found.is_open() {
            let why = "no request that would show it could be made up".to_owned();
            self.not_proved(action_at, cell, grows, policies, why);
            return;
        }
        match query(cell, granted, allowed) {
            Ok(query) => {
                let resource = Arc::clone(cell.resource);
                let open = OpenCell { action: action_at, principal: principal_at, resource, grows };
                let (_, cells) = self.open.entry(key(&query)).or_insert_with(|| (query, Vec::new()));
                cells.push(open);
            }
            Err(why) => self.not_proved(action_at, cell, grows, policies, why),
        }
    }

    fn change(&mut self, action: usize, cell: &Cell<'_>, grows: bool, witness: &Witness) {
        let decided = |decision: &crate::policy::Decision| Decided {
            outcome: decision.outcome,
            policies: decision.policies.iter().map(ToString::to_string).collect(),
        };
        let (old, new) = (decided(&witness.old), decided(&witness.new));
        let key = (grows, action, old.policies.clone(), new.policies.clone());
        self.changes.entry(key).or_insert_with(|| (grows, witness.change(cell, old, new)));
    }

    fn not_proved(&mut self, action: usize, cell: &Cell<'_>, grows: bool, policies: Vec<String>, why: String) {
        let kind = cell.resource.resource.kind();
        let unproved =
            self.unproved.entry((grows, action, policies.clone(), why.clone())).or_insert_with(|| Unproved {
                grows,
                actions: cell.action.to_vec(),
                resource_type: kind.as_str(),
                principal: cell.principal.id.to_string(),
                resource: cell.resource.resource.to_string(),
                policies,
                why,
                count: 0,
            });
        unproved.count += 1;
    }

    fn partitions_left_out(&mut self, at: usize, action: &ActionClass) {
        let why = "there are too many tables to look at what is a partition of several of them".to_owned();
        for grows in self.wanted.directions.iter().copied() {
            self.unproved.insert(
                (grows, at, Vec::new(), why.clone()),
                Unproved {
                    grows,
                    actions: action.names.clone(),
                    resource_type: action.kind.as_str(),
                    principal: "anybody".to_owned(),
                    resource: "a partition".to_owned(),
                    policies: Vec::new(),
                    why: why.clone(),
                    count: 1,
                },
            );
        }
    }

    /// Whether the policy that the comparison is about matches anything.
    pub(in crate::analysis) const fn stands(&self) -> bool {
        self.stands
    }

    /// What hangs on conditions, to be put to the solver: each question with its key.
    pub(in crate::analysis) fn questions(&mut self) -> Vec<(String, Query, Vec<OpenCell>)> {
        let open = std::mem::take(&mut self.open).into_iter();
        let mut open: Vec<_> = open.map(|(key, (query, cells))| (key, query, cells)).collect();
        open.sort_by(|one, other| one.0.cmp(&other.0));
        self.plan.asked = open.len() as u64;
        open
    }

    /// Takes the answer to a question.
    pub(in crate::analysis) fn take(&mut self, query: &Query, cells: &[OpenCell], answer: &Answer) {
        let actions = std::mem::take(&mut self.actions);
        let principals = std::mem::take(&mut self.principals);
        for open in cells.iter().take(MAX_ANSWERED) {
            let (Some(action), Some(principal)) = (actions.get(open.action), principals.get(open.principal)) else {
                continue;
            };
            let cell = Cell { action: &action.names, principal, resource: &open.resource };
            self.answered(&cell, open, query, answer);
        }
        (self.actions, self.principals) = (actions, principals);
    }

    /// What was found.
    pub(in crate::analysis) fn finish(self) -> Plan {
        let Self { mut plan, unproved, changes, .. } = self;
        plan.unproved = unproved.into_values().collect();
        for (grows, change) in changes.into_values() {
            if grows { &mut plan.grows } else { &mut plan.shrinks }.push(change);
        }
        plan
    }

    fn answered(&mut self, cell: &Cell<'_>, open: &OpenCell, query: &Query, answer: &Answer) {
        let why = match answer {
            Answer::Holds => return,
            Answer::Unknown(why) => why.clone(),
            Answer::Refuted { context, entities } => {
                let found = in_model(cell, self.sides, open.grows, query, (context, entities));
                match found {
                    Some(witness) => {
                        self.change(open.action, cell, open.grows, &witness);
                        return;
                    }
                    None => "the solver's answer fits no real request".to_owned(),
                }
            }
        };
        self.not_proved(open.action, cell, open.grows, policies(&query.granted, &query.allowed), why);
    }
}

/// What is left of the policies of one effect.
fn bodies(residuals: &[Residual], permits: bool) -> BTreeSet<String> {
    let of_effect = residuals.iter().filter(|residual| residual.permits == permits);
    of_effect.map(Residual::text).collect()
}

fn named_texts(residuals: &[Residual]) -> Vec<String> {
    residuals.iter().map(|residual| format!("{} {}", residual.id, residual.text())).collect()
}

fn policies(granted: &[Residual], allowed: &[Residual]) -> Vec<String> {
    let ids: BTreeSet<String> = granted.iter().chain(allowed).map(|residual| residual.id.to_string()).collect();
    ids.into_iter().collect()
}

fn senses<'a>(policies: &[&'a Surveyed]) -> Vec<&'a str> {
    let mut senses: Vec<&str> = policies.iter().map(|policy| &*policy.sense).collect();
    senses.sort_unstable();
    senses.dedup();
    senses
}

pub(in crate::analysis) fn errs(residual: &Residual) -> bool {
    matches!(&residual.body, Body::Open(body) if may_err(body))
}

/// Compares what `granted` allows with what `allowed` does, as far as it can be told without a solver.
fn verdict(granted: &[Residual], allowed: &[Residual]) -> Verdict {
    let holds = |residuals: &[Residual], permits| {
        residuals.iter().any(|residual| residual.permits == permits && residual.body == Body::Holds)
    };
    let has = |residuals: &[Residual], permits| residuals.iter().any(|residual| residual.permits == permits);
    if !has(granted, true) || holds(granted, false) {
        return Verdict::Within;
    }
    if holds(allowed, true) && !has(allowed, false) && !allowed.iter().any(errs) {
        return Verdict::Within;
    }
    let covered = |residual: &Residual, by: &[Residual]| {
        by.iter().any(|other| other.permits == residual.permits && other.body == residual.body)
    };
    let permits_are_old = granted.iter().filter(|residual| residual.permits).all(|permit| covered(permit, allowed));
    let forbids_are_kept = allowed.iter().filter(|residual| !residual.permits).all(|forbid| covered(forbid, granted));
    let errors_are_kept = allowed.iter().filter(|residual| errs(residual)).all(|policy| covered(policy, granted));
    if permits_are_old && forbids_are_kept && errors_are_kept {
        return Verdict::Within;
    }
    let granted_for_sure = holds(granted, true) && !has(granted, false) && !granted.iter().any(errs);
    let denied_for_sure = !has(allowed, true) || holds(allowed, false);
    if granted_for_sure && denied_for_sure { Verdict::Beyond } else { Verdict::Open }
}

pub(in crate::analysis) fn query(cell: &Cell<'_>, granted: &[Residual], allowed: &[Residual]) -> Result<Query, String> {
    let left = Left::of(granted.iter().chain(allowed));
    if left.strange {
        return Err("a condition asks more of entities than can be told by class".to_owned());
    }
    let mut assumptions = ContextAssumed::of(&left);
    if left.principal {
        assumptions.extend(cell.principal.assumptions());
    }
    let is_kept = |residual: &Residual| {
        granted.iter().any(|other| other.permits == residual.permits && other.body == residual.body)
    };
    Ok(Query {
        action: cell.action.first().cloned().unwrap_or_default(),
        kind: cell.resource.resource.kind(),
        assumptions,
        granted: granted.to_vec(),
        allowed: allowed.to_vec(),
        must_not_err: allowed.iter().filter(|residual| errs(residual) && !is_kept(residual)).cloned().collect(),
        of_errors: false,
    })
}

/// What tells questions to the solver apart.
pub(in crate::analysis) fn key(query: &Query) -> String {
    let side = |residuals: &[Residual]| {
        let texts: BTreeSet<String> = residuals.iter().map(Residual::text).collect();
        texts.into_iter().collect::<Vec<_>>().join("\n")
    };
    format!(
        "{} {}\n{}\n--\n{}\n--\n{}",
        query.action,
        query.kind.as_str(),
        query.assumptions.join("\n"),
        side(&query.granted),
        side(&query.allowed)
    )
}

/// What people know of the actions of a store is shown first.
const WELL_KNOWN: [&str; 5] = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "http:GET"];

pub(in crate::analysis) fn action_classes(sides: Sides<'_>) -> Vec<ActionClass> {
    let mut old: HashMap<String, SurveyedAction> =
        sides.old.actions().into_iter().map(|action| (action.name.clone(), action)).collect();
    let mut classes: Vec<ActionClass> = Vec::new();
    for new in sides.new.actions() {
        let Some(old) = old.remove(&new.name) else { continue };
        for kind in &new.kinds {
            let family = |name: &str| name.split(':').next().map(str::to_owned);
            let alike = classes.iter_mut().find(|class| {
                class.kind == *kind
                    && (&class.old.spot, &class.new.spot, class.new.form) == (&old.spot, &new.spot, new.form)
                    && class.names.first().and_then(|name| family(name)) == family(&new.name)
            });
            match alike {
                Some(class) => class.names.push(new.name.clone()),
                None => {
                    let copy = |action: &SurveyedAction| SurveyedAction {
                        name: action.name.clone(),
                        kinds: action.kinds.clone(),
                        form: action.form,
                        spot: action.spot.clone(),
                    };
                    let names = vec![new.name.clone()];
                    classes.push(ActionClass { names, kind: *kind, old: copy(&old), new: copy(&new) });
                }
            }
        }
    }
    let rank = |name: &String| WELL_KNOWN.iter().position(|known| known == name).unwrap_or(WELL_KNOWN.len());
    for class in &mut classes {
        class.names.sort_by_key(|name| (rank(name), name.clone()));
    }
    classes.sort_by_key(|class| class.names.first().map_or(WELL_KNOWN.len(), rank));
    classes
}
