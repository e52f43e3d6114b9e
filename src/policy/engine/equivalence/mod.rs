//! The shortcut is right: random policies, entities and requests, decided here and by Cedar on everything.
//!
//! `PORTCULLIS_EQUIVALENCE_CASES=N` compares N answers instead of 10,000; `PORTCULLIS_EQUIVALENCE_SEED` is another series;
//! `PORTCULLIS_EQUIVALENCE_BLOCK` is one block of it, as a failure names it.

mod oracle;
mod random;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use cedar_policy::{
    Context as CedarContext, EntityUid, Policy, PolicyId, PolicySet, Request, RestrictedExpression as Expression,
};
use fastrand::Rng;

use self::oracle::Oracle;
use self::random::{Asked, TEAM, at, changed, entities, file, policy, question, teams};
use super::builder::Compilable;
use super::compiled::Engine;
use super::memory::Memory;
use crate::identity::SpiffeId;
use crate::mapping::{Context, Value};
use crate::policy::LoadedPolicy;
use crate::policy::decision::{Decision, Outcome};
use crate::policy::forms::Known;
use crate::policy::load::{Problems, Reads, SourceFile, StaticEntities};
use crate::policy::schema::{self, MergedSchema};
use crate::policy::trace::{Verdict, traced_each};

/// Of each set of policies.
const QUESTIONS: usize = 25;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

fn merged() -> MergedSchema {
    schema::merge(&[SourceFile::new("team.cedarschema", TEAM)], &mut Problems::default()).expect("schema")
}

fn compilable(id: &Arc<str>, policy: &Policy) -> Compilable {
    Compilable { id: Arc::clone(id), policy: policy.clone(), reads: Arc::new(Reads::of(policy)) }
}

/// A random set of policies with its engine and Cedar's own.
struct Set {
    engine: Engine,
    oracle: Oracle,
    texts: Vec<String>,
    entities: String,
    /// What was asked, with Cedar's answer.
    asked: Vec<(Asked, (Outcome, Vec<String>))>,
}

impl Set {
    fn new(rng: &mut Rng, schema: &MergedSchema, texts: Vec<String>) -> Self {
        let policies: Vec<(Arc<str>, Policy)> = texts
            .iter()
            .enumerate()
            .map(|(n, text)| {
                (format!("p{n}").into(), Policy::parse(Some(PolicyId::new(format!("p{n}"))), text).expect(text))
            })
            .collect();
        let (said, teams) = (entities(rng), teams(rng));
        let entities = file(&said, &teams);
        let mut problems = Problems::default();
        let statics =
            StaticEntities::parse(&[SourceFile::new("entities.json", &*entities)], &schema.schema, &mut problems);
        problems.verdict().expect("entities load");
        let compilable = policies.iter().map(|(id, policy)| compilable(id, policy));
        let engine = Engine::compile(compilable, &statics, schema.clone()).expect("compiles");
        let policies = PolicySet::from_policies(policies.iter().map(|(_, policy)| policy.clone())).expect("set");
        Self { engine, oracle: Oracle::new(policies, said, &teams, &schema.schema), texts, entities, asked: Vec::new() }
    }

    fn decide(&self, asked: &Asked) -> Decision {
        let principal = self.engine.principal(&SpiffeId::parse(asked.workload).expect("id"));
        self.engine.decide(&principal, &asked.operation, &asked.facts)
    }

    /// Asks both, and holds them to the same answer.
    fn compare(&mut self, asked: Asked, tally: &mut Tally) {
        let ours = self.decide(&asked);
        let (outcome, mut deciding) = self.oracle.decide(&asked);
        deciding.sort();
        self.hold(&ours, &asked, &(outcome, deciding.clone()));
        *tally.outcomes.entry(outcome.as_str()).or_default() += 1;
        tally.lasting += usize::from(ours.lasts);
        if ours.lasts {
            // At any time, and from memory.
            for now in [0, 1_700_000_000_123, 1_800_000_000_000] {
                let later = Asked { facts: at(&asked.facts, now), ..asked.clone() };
                assert_eq!(self.decide(&later), ours, "asked at {now}: {}", self.shown(&later));
            }
        }
        self.asked.push((asked, (outcome, deciding)));
    }

    /// Asks something again that was asked before.
    fn ask_again(&self, rng: &mut Rng) {
        if let Some((asked, expected)) = self.asked.get(rng.usize(..self.asked.len().max(1))) {
            self.hold(&self.decide(asked), asked, expected);
        }
    }

    fn hold(&self, ours: &Decision, asked: &Asked, expected: &(Outcome, Vec<String>)) {
        let mut found: Vec<String> = ours.policies.iter().map(ToString::to_string).collect();
        found.sort();
        assert_eq!((ours.outcome, &found), (expected.0, &expected.1), "{}", self.shown(asked));
    }

    fn shown(&self, asked: &Asked) -> String {
        let Asked { workload, operation, facts } = asked;
        let (action, resource, context) = (&operation.action, &operation.resource, &operation.context);
        let (texts, entities) = (self.texts.join("\n"), &self.entities);
        format!("{workload} asks {action} on {resource} with {facts:?} {context:?}\n{texts}\n{entities}")
    }
}

#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<&'static str, usize>,
    lasting: usize,
    recalled: usize,
}

/// Some sets, each made from the one before. Nothing outside of it has a part in what it asks: it can be run again alone.
struct Block {
    series: u64,
    number: u64,
}

impl Block {
    const SETS: u64 = 10;

    /// As many as it takes for so many cases; or the one that the environment names.
    fn numbers(cases: u64) -> Range<u64> {
        match std::env::var("PORTCULLIS_EQUIVALENCE_BLOCK") {
            Ok(one) => one.parse().map(|one| one..one + 1).expect("a number"),
            Err(_) => 0..cases.div_ceil(Self::SETS * QUESTIONS as u64),
        }
    }
}

/// Whatever went wrong, here it is again.
impl Drop for Block {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { series, number } = self;
            eprintln!("again: PORTCULLIS_EQUIVALENCE_SEED={series} PORTCULLIS_EQUIVALENCE_BLOCK={number}");
        }
    }
}

/// One set after the other, the one before still being asked while the next one is: as when policies are swapped.
fn compare(block: &Block, schema: &MergedSchema) -> Tally {
    let mut tally = Tally::default();
    let mut before: Option<Set> = None;
    for set in block.number * Block::SETS..(block.number + 1) * Block::SETS {
        let mut rng = Rng::with_seed(block.series << 32 | set);
        // Some are those before with a few policies of their own in place of others: the same questions are asked of both.
        let mut texts: Vec<String> = (0..rng.usize(1..25)).map(|_| policy(&mut rng)).collect();
        if let Some(before) = before.as_ref().filter(|_| rng.bool()) {
            texts.truncate(2);
            texts.extend(before.texts.iter().skip(2).cloned());
        }
        let is_blind = set % 2 == 1;
        let mut set = Set::new(&mut rng, schema, texts);
        if is_blind {
            set.engine.memory = Memory::blind();
        }
        for _ in 0..QUESTIONS {
            let known = set.asked.iter().chain(before.iter().flat_map(|before| &before.asked));
            let known: Vec<&Asked> = known.map(|(asked, _)| asked).collect();
            let asked = match known.get(rng.usize(..2 * known.len().max(1))) {
                Some(asked) => changed(&mut rng, asked),
                None => question(&mut rng),
            };
            set.compare(asked, &mut tally);
            set.ask_again(&mut rng);
            if let Some(before) = &before {
                before.ask_again(&mut rng);
            }
        }
        tally.recalled += set.engine.recalled();
        before = Some(set);
    }
    tally
}

#[test]
fn every_decision_and_its_policies_are_those_of_cedar_on_the_whole_set() {
    let (cases, series) = (number("PORTCULLIS_EQUIVALENCE_CASES", 10_000), number("PORTCULLIS_EQUIVALENCE_SEED", 1));
    let (blocks, schema) = (Block::numbers(cases), merged());
    println!("series {series} (PORTCULLIS_EQUIVALENCE_SEED), blocks {blocks:?} (PORTCULLIS_EQUIVALENCE_BLOCK)");
    let next = AtomicU64::new(blocks.start);
    let compared = || -> Vec<Tally> {
        let numbers = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < blocks.end);
        std::iter::from_fn(numbers).map(|number| compare(&Block { series, number }, &schema)).collect()
    };
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(compared)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no answer differs")).collect()
    });
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (outcome, count) in tallies.iter().flat_map(|tally| &tally.outcomes) {
        *outcomes.entry(outcome).or_default() += count;
    }
    let lasting: usize = tallies.iter().map(|tally| tally.lasting).sum();
    let recalled: usize = tallies.iter().map(|tally| tally.recalled).sum();
    println!("{outcomes:?}, {lasting} last, {recalled} recalled");
    let all: usize = outcomes.values().sum();
    if blocks.end - blocks.start == 1 {
        return;
    }
    assert!(all as u64 >= cases, "{all} cases");
    assert!(lasting * 4 > all && lasting < all, "{lasting} of {all} last");
    // Each that lasts is asked three times more.
    assert!(recalled > lasting * 3, "{recalled} recalled");
    for outcome in ["allowed", "forbidden", "not_permitted", "error"] {
        assert!(outcomes.get(outcome).copied().unwrap_or_default() * 50 > all, "too few of {outcome}: {outcomes:?}");
    }
}

/// As it is loaded, as far as a trace looks at it.
fn loaded(id: &Arc<str>, text: &str) -> LoadedPolicy {
    let (file, text) = ("p.cedar".into(), text.into());
    LoadedPolicy {
        id: Arc::clone(id),
        file,
        line: 1,
        effect_at: (1, 1),
        text,
        shadow: false,
        permits: true,
        actions: Vec::new(),
    }
}

#[test]
fn a_policy_that_is_traced_matches_exactly_if_it_does_for_cedar_and_all_its_clauses_hold() {
    let sets = (number("PORTCULLIS_EQUIVALENCE_CASES", 0) / 100).clamp(60, 2_000);
    let schema = merged();
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    for set in 0..sets {
        let mut rng = Rng::with_seed(7 << 32 | set);
        // Half of them are about everything: most questions come to their conditions.
        let opened = |text: String| match text.split_once(')') {
            Some((_, conditions)) => format!("permit (principal, action, resource){conditions}"),
            None => text,
        };
        let texts: Vec<String> = (0..6)
            .map(|_| policy(&mut rng))
            .enumerate()
            .map(|(n, text)| if n % 2 == 0 { opened(text) } else { text })
            .collect();
        let ids: Vec<Arc<str>> = (0..6).map(|n| format!("p{n}").into()).collect();
        let parsed: Vec<Policy> = ids
            .iter()
            .zip(&texts)
            .map(|(id, text)| Policy::parse(Some(PolicyId::new(&**id)), text).expect(text))
            .collect();
        let (said, teams) = (entities(&mut rng), teams(&mut rng));
        let file = SourceFile::new("entities.json", file(&said, &teams));
        let statics = StaticEntities::parse(&[file], &schema.schema, &mut Problems::default());
        let compilable = ids.iter().zip(&parsed).map(|(id, policy)| compilable(id, policy));
        let engine = Engine::compile(compilable, &statics, schema.clone()).expect("compiles");
        let loaded: Vec<_> = ids.iter().zip(&texts).map(|(id, text)| loaded(id, text)).collect();
        let mut oracle = Oracle::new(PolicySet::new(), said, &teams, &schema.schema);
        for _ in 0..4 {
            let asked = question(&mut rng);
            let id = SpiffeId::parse(asked.workload).expect("id");
            let traced = traced_each(&engine, &id, &asked.operation, &asked.facts, &loaded);
            assert_eq!(traced.len(), parsed.len());
            for ((traced, parsed), text) in traced.iter().zip(&parsed).zip(&texts) {
                oracle.policies = PolicySet::from_policies([parsed.clone()]).expect("set");
                let cedar = match oracle.decide(&asked).0 {
                    Outcome::Allowed | Outcome::Forbidden => "true",
                    Outcome::Error => "error",
                    Outcome::NotPermitted | Outcome::Refused => "false",
                };
                let matches = match &traced.matches {
                    Ok(true) => "true",
                    Ok(false) => "false",
                    Err(_) => "error",
                };
                // The first clause that does not hold is the one at which Cedar stops.
                let stops = match traced.clauses.iter().find(|clause| clause.verdict != Verdict::Holds) {
                    None => "true",
                    Some(clause) if matches!(clause.verdict, Verdict::Errs(_)) => "error",
                    Some(clause) => {
                        assert_eq!(clause.verdict, Verdict::Fails, "{text}\n{traced:#?}");
                        "false"
                    }
                };
                assert_eq!(
                    (matches, stops),
                    (cedar, cedar),
                    "{} {}\n{text}\n{traced:#?}",
                    asked.workload,
                    asked.operation.resource
                );
                *verdicts.entry(cedar).or_default() += 1;
            }
        }
    }
    println!("{verdicts:?}");
    assert!(["true", "false", "error"].iter().all(|verdict| verdicts.get(verdict).is_some_and(|count| *count > 4)));
}

/// A context that may be wrong: something missing, of another type, or too much.
fn damaged(rng: &mut Rng, context: &Context) -> Context {
    let mut attributes: Vec<_> = context.iter().map(|(name, value)| (name, value.clone())).collect();
    let wrong = [
        Value::Long(1),
        "text".into(),
        Value::Bool(true),
        Value::Strings(vec!["a".into()]),
        Value::Datetime(1),
        Value::Record(Vec::new()),
    ];
    let at = rng.usize(..attributes.len().max(1));
    match rng.u8(..4) {
        0 if at < attributes.len() => {
            attributes.remove(at);
        }
        1 if at < attributes.len() => attributes[at].1 = wrong[rng.usize(..wrong.len())].clone(),
        2 => {
            let name = ["acl", "columns", "host", "nonsense", "storageClass", "role"][rng.usize(..6)];
            attributes.retain(|(known, _)| *known != name);
            attributes.push((name, wrong[rng.usize(..wrong.len())].clone()));
        }
        _ => {}
    }
    let mut damaged = Context::default();
    attributes.into_iter().for_each(|(name, value)| damaged.set(name, value));
    damaged
}

#[test]
fn a_question_has_the_form_of_its_action_exactly_if_cedar_validates_the_request() {
    let merged = merged();
    let mut valid = 0;
    for n in 0..5_000 {
        let mut rng = Rng::with_seed(n);
        let asked = question(&mut rng);
        let mut whole = Context::default();
        asked
            .facts
            .iter()
            .chain(asked.operation.context.iter())
            .for_each(|(name, value)| whole.set(name, value.clone()));
        let whole = damaged(&mut rng, &whole);
        let action = asked.operation.action.as_str();
        let form = merged.forms.get(action).expect("known action");
        let mut context = Vec::new();
        let mut headers = !action.starts_with("tcp:") && !action.starts_with("sql:");
        for (name, value) in whole.iter() {
            headers &= !matches!(value, Value::Headers(_));
            context.push((name.to_owned(), Oracle::value(value, &mut HashMap::new())));
        }
        if headers && whole.get("headers").is_none() {
            context.push(("headers".to_owned(), Expression::new_entity_uid("Headers::\"h\"".parse().expect("uid"))));
        }
        let uid = |text: &str| EntityUid::from_str(text).expect("uid");
        let request = Request::new(
            uid(&format!("Workload::\"{}\"", asked.workload)),
            uid(&format!("Action::\"{action}\"")),
            uid(&asked.operation.resource.to_string()),
            CedarContext::from_pairs(context).expect("context"),
            Some(&merged.schema),
        );
        let none = Context::default();
        let ours = form.check(&whole, &none, &mut Known::nothing());
        assert_eq!(ours.is_ok(), request.is_ok(), "{action} with {whole:?}: {ours:?}, Cedar {:?}", request.err());
        valid += usize::from(ours.is_ok());
    }
    assert!((1_000..4_500).contains(&valid), "{valid} of 5000 are valid");
}
