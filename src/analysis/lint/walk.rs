//! Every policy in all classes of questions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{EntityUid, Schema};

use super::ask::Asked;
use super::wide::{Grant, Wide, several};
use super::{Finding, Lint, NotChecked, Rule};
use crate::analysis::plan::cells::{ActionClass, action_classes, errs, key, query};
use crate::analysis::plan::classes::{Named, PrincipalClass, ResourceClass, Sides};
use crate::analysis::plan::residual::{Body, Left, Place, Residual};
use crate::analysis::plan::solver::Query;
use crate::analysis::plan::witness::Cell;
use crate::policy::{LoadedPolicy, SHIPPED_SCHEMA, Survey};

/// More questions about one policy are not asked: it is then not checked.
const MAX_OPEN: usize = 60;
/// So many classes are tried with a few requests each before a solver is asked.
const MAX_TRIED: usize = 6;

/// Everything that is known of all policies.
pub(super) struct Walk<'a> {
    pub(super) survey: &'a Survey<'a>,
    pub(super) actions: Vec<ActionClass>,
    pub(super) principals: Vec<PrincipalClass>,
    pub(super) looks: Vec<Look>,
    admin: HashSet<String>,
    /// The place of a policy among all.
    numbers: HashMap<&'a str, usize>,
    cells: u64,
}

/// What is known of a policy.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Its scope and conditions leave something of it somewhere.
    stands: bool,
    /// Its scope names no principal and no resource.
    is_open: bool,
    /// It matches for certain, somewhere.
    matches: bool,
    /// It is known to decide something.
    pub(super) decides: bool,
    tried: usize,
    /// In how many classes it stands, and in how many of them whatever else is asked.
    standing: u64,
    holding: u64,
    /// Forbids that stand where it does.
    forbids: BTreeSet<Arc<str>>,
    wide: Wide,
    any_principal: bool,
    pub(super) open: BTreeMap<(Kind, String), Open>,
    pub(super) verdicts: BTreeMap<Kind, Asked>,
    too_many: BTreeSet<Kind>,
    unconstrained: bool,
}

/// What is asked of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Whether it decides something.
    Decides,
    /// Whether it matches something.
    Matches,
    /// Whether it can fail.
    Errs,
    /// Whether there is something that it does not match.
    Bounded,
    /// Whether who may administer by it is bounded by their attributes.
    Narrowed,
}

/// A question about a policy.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) query: Query,
    pub(super) action: usize,
    pub(super) principal: usize,
    pub(super) resource: Arc<ResourceClass>,
    /// What is granted too widely if it is answered with no.
    pub(super) grant: Grant,
}

impl<'a> Walk<'a> {
    pub(super) fn through(survey: &'a Survey<'a>) -> Result<Self, String> {
        let sides = Sides { old: survey, new: survey };
        let named = Named::of(sides);
        let mut walk = Self {
            survey,
            actions: action_classes(sides),
            principals: named.principals(sides),
            looks: survey.policies().iter().map(|policy| Look { is_open: policy.is_open, ..Look::default() }).collect(),
            admin: admin_actions()?,
            numbers: survey.policies().iter().zip(0..).map(|(policy, number)| (&*policy.id, number)).collect(),
            cells: 0,
        };
        let actions = std::mem::take(&mut walk.actions);
        let principals = std::mem::take(&mut walk.principals);
        let mut resources: BTreeMap<_, Vec<Arc<ResourceClass>>> = BTreeMap::new();
        for (action_at, action) in actions.iter().enumerate() {
            let of_kind = resources.entry(action.kind).or_insert_with(|| named.resources(sides, action.kind));
            for (principal_at, principal) in principals.iter().enumerate() {
                walk.cells += of_kind.len() as u64;
                if survey.matching_some(&action.old.spot, &principal.old).is_empty() {
                    continue;
                }
                for resource in of_kind.iter() {
                    let cell = Cell { action: &action.names, principal, resource };
                    walk.cell(&cell, action, (action_at, principal_at));
                }
            }
        }
        (walk.actions, walk.principals) = (actions, principals);
        walk.unconstrained();
        Ok(walk)
    }

    fn cell(&mut self, cell: &Cell<'_>, action: &ActionClass, at: (usize, usize)) {
        let (principal, resource) = (&cell.principal.old, &cell.resource.old);
        let found = self.survey.matching(&action.old.spot, principal, resource, action.kind);
        if found.is_empty() {
            return;
        }
        let attributes = cell.principal.attributes.as_ref();
        let survey = self.survey;
        let place = Place { survey, principal, action: &action.old.spot, resource, kind: action.kind, attributes };
        let left: Vec<(usize, Residual)> = found
            .iter()
            .filter_map(|policy| Some((*self.numbers.get(&*policy.id)?, place.residual(policy)?)))
            .collect();
        for (number, residual) in &left {
            self.look(*number, residual, &left, cell, action, at);
        }
    }

    fn look(
        &mut self,
        number: usize,
        own: &Residual,
        all: &[(usize, Residual)],
        cell: &Cell<'_>,
        action: &ActionClass,
        at: (usize, usize),
    ) {
        let survey = self.survey;
        // Actions that no policy tells apart are one class, whatever their groups.
        let admin: Vec<String> = action.names.iter().filter(|name| self.admin.contains(*name)).cloned().collect();
        let Some(look) = self.looks.get_mut(number) else { return };
        let holds = own.body == Body::Holds;
        look.stands = true;
        look.matches |= holds;
        look.standing += 1;
        look.holding += u64::from(holds);
        let forbids = all.iter().filter(|(_, other)| !other.permits).map(|(_, other)| other);
        let is_forbidden = own.permits && forbids.clone().any(|forbid| forbid.body == Body::Holds);
        if own.permits {
            look.forbids.extend(forbids.clone().map(|forbid| Arc::clone(&forbid.id)));
            if !is_forbidden {
                look.grants(own, cell, admin, at);
            }
            if !holds && look.is_open {
                let everything = [Residual { body: Body::Holds, ..own.clone() }];
                let bounded = query(cell, &everything, std::slice::from_ref(own));
                look.ask(Kind::Bounded, bounded, cell, at, Grant::default());
            }
        }
        if errs(own) {
            let of_errors = query(cell, &[], std::slice::from_ref(own));
            // As a permit it is taken under what all requests keep to.
            let alone = Residual { permits: true, ..own.clone() };
            let of_errors = of_errors.map(|query| Query { must_not_err: vec![alone], of_errors: true, ..query });
            look.ask(Kind::Errs, of_errors, cell, at, Grant::default());
        }
        if look.decides || is_forbidden {
            return;
        }
        let fails = all.iter().any(|(_, other)| errs(other));
        let is_bare = !own.permits || forbids.clone().next().is_none();
        if holds && is_bare && !fails {
            look.decides = true;
            return;
        }
        let permit = Residual { permits: true, ..own.clone() };
        let others = forbids.filter(|_| own.permits).cloned();
        let granted: Vec<Residual> = std::iter::once(permit.clone()).chain(others).collect();
        if look.tried < MAX_TRIED {
            look.tried += 1;
            look.decides = super::ask::is_decided_by(survey, &own.id, cell, &granted);
        }
        if !look.decides {
            look.ask(Kind::Decides, query(cell, &granted, &[]), cell, at, Grant::default());
            look.ask(Kind::Matches, query(cell, &[permit], &[]), cell, at, Grant::default());
        }
    }

    /// Which permits match everything, as far as their conditions may let them.
    fn unconstrained(&mut self) {
        for look in &mut self.looks {
            if look.standing < self.cells {
                look.open.retain(|(kind, _), _| *kind != Kind::Bounded);
                look.too_many.remove(&Kind::Bounded);
            } else {
                look.unconstrained = look.holding == self.cells;
            }
        }
    }
}

impl Look {
    /// Whom a permit grants too much.
    fn grants(&mut self, own: &Residual, cell: &Cell<'_>, actions: Vec<String>, at: (usize, usize)) {
        let class = cell.principal;
        let is_anybody = class.old.is_nowhere() && class.attributes.is_none();
        let reads_principal = Left::of([own]).principal;
        self.any_principal |= is_anybody && !reads_principal;
        if actions.is_empty() {
            return;
        }
        let domain = class.trust_domain.as_deref().filter(|_| class.below.is_none() && class.attributes.is_none());
        let under = if own.body == Body::Holds { "" } else { " (under conditions)" };
        if cell.resource.old.is_nowhere() {
            let to = format!("on every {}{under}", cell.resource.resource.kind().as_str());
            self.wide.add(&Grant { actions: actions.clone(), to });
        }
        let who = match (is_anybody, domain) {
            (true, _) => "to every workload of every trust domain".to_owned(),
            (false, Some(domain)) => format!("to every workload of the trust domain `{domain}`"),
            (false, None) => return,
        };
        let grant = Grant { actions, to: format!("{who}{under}") };
        if reads_principal {
            let everything = [Residual { body: Body::Holds, ..own.clone() }];
            self.ask(Kind::Narrowed, query(cell, &everything, std::slice::from_ref(own)), cell, at, grant);
        } else {
            self.wide.add(&grant);
        }
    }

    fn ask(&mut self, kind: Kind, query: Result<Query, String>, cell: &Cell<'_>, at: (usize, usize), grant: Grant) {
        let query = match query {
            Ok(query) => query,
            Err(why) => {
                self.verdicts.insert(kind, Asked::Unknown(why));
                return;
            }
        };
        let (action, principal) = at;
        let key =
            (kind, format!("{} {}", key(&query), query.must_not_err.iter().map(Residual::text).collect::<String>()));
        if self.open.keys().filter(|(of, _)| *of == kind).count() >= MAX_OPEN && !self.open.contains_key(&key) {
            self.too_many.insert(kind);
            return;
        }
        let resource = Arc::clone(cell.resource);
        self.open.entry(key).or_insert(Open { query, action, principal, resource, grant });
    }

    pub(super) fn found_wide(&mut self, grant: &Grant) {
        self.wide.add(grant);
    }

    /// What is known of a question; not asked is never.
    fn verdict(&self, kind: Kind) -> Asked {
        match self.verdicts.get(&kind) {
            Some(Asked::Never) | None if self.too_many.contains(&kind) => {
                Asked::Unknown(format!("it stands in too many classes of questions, more than {MAX_OPEN} that differ"))
            }
            Some(found) => found.clone(),
            None => Asked::Never,
        }
    }

    pub(super) fn verdicts(&self, permits: bool, policy: &LoadedPolicy, lint: &mut Lint) {
        let id = policy.id.to_string();
        let mut find = |rule: Rule, message: String| {
            let (file, place) = (policy.file.to_string(), policy.effect_at);
            lint.findings.push(Finding { rule, policy: id.clone(), file, place, message });
        };
        let mut open = Vec::new();
        let mut wide = permits && self.unconstrained;
        if permits && !self.unconstrained && self.open.keys().any(|(kind, _)| *kind == Kind::Bounded) {
            match self.verdict(Kind::Bounded) {
                Asked::Found => {}
                Asked::Never => wide = true,
                Asked::Unknown(why) => open.push((Rule::Unconstrained, why)),
            }
        }
        if wide {
            find(Rule::Unconstrained, format!("policy `{id}` permits everything to everybody"));
        } else {
            if !self.wide.is_empty() {
                find(Rule::WideAdmin, format!("policy `{id}` permits {}", self.wide.text()));
            } else if let Asked::Unknown(why) = self.verdict(Kind::Narrowed) {
                open.push((Rule::WideAdmin, why));
            }
            if permits && self.any_principal {
                find(
                    Rule::AnyPrincipal,
                    format!("policy `{id}` permits something to every workload of every trust domain"),
                );
            }
        }
        match self.verdict(Kind::Errs) {
            Asked::Found => find(Rule::CanError, format!("policy `{id}` can fail, and denies where it does")),
            Asked::Never => {}
            Asked::Unknown(why) => open.push((Rule::CanError, why)),
        }
        if !self.decides {
            let matches = if self.matches { Asked::Found } else { self.verdict(Kind::Matches) };
            match (self.stands, self.verdict(Kind::Decides), matches) {
                (false, ..) => find(Rule::NeverMatches, format!("policy `{id}` matches nothing that could be asked")),
                (_, Asked::Found, _) => {}
                (_, Asked::Unknown(why), _) => {
                    open.push((Rule::NeverMatches, why.clone()));
                    if !self.forbids.is_empty() {
                        open.push((Rule::Shadowed, why));
                    }
                }
                (_, Asked::Never, Asked::Never) => {
                    find(Rule::NeverMatches, format!("policy `{id}` matches nothing that could be asked"));
                }
                (_, Asked::Never, Asked::Unknown(why)) => open.push((Rule::NeverMatches, why)),
                (_, Asked::Never, Asked::Found) => {
                    let by = several(self.forbids.iter().map(|forbid| format!("`{forbid}`")));
                    let by = match self.forbids.len() {
                        0 => "others fail".to_owned(),
                        1 => format!("{by} forbids"),
                        _ => format!("{by} forbid"),
                    };
                    find(Rule::Shadowed, format!("policy `{id}` permits nothing: {by} all that it matches"));
                }
            }
        }
        lint.not_checked.extend(open.into_iter().map(|(rule, why)| NotChecked { rule, policy: id.clone(), why }));
    }
}

/// The actions of the group `admin`.
fn admin_actions() -> Result<HashSet<String>, String> {
    let (schema, _) = Schema::from_cedarschema_str(SHIPPED_SCHEMA).map_err(|cause| cause.to_string())?;
    let group: EntityUid = "Action::\"admin\"".parse().map_err(|cause| format!("{cause}"))?;
    let entities = schema.action_entities().map_err(|cause| cause.to_string())?;
    let is_admin =
        |uid: &&EntityUid| entities.ancestors(uid).is_some_and(|mut above| above.any(|above| *above == group));
    Ok(schema.actions().filter(is_admin).map(|uid| uid.id().unescaped().to_owned()).collect())
}
