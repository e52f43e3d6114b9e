//! What policies are to keep to, whatever they are changed to: `invariants.yaml`.
//!
//! An invariant becomes policies of its own, which Cedar validates and which are compiled as others are: `never` is everything but what
//! it forbids, `always` is nothing but what it permits. So policies keep to a `never` if they allow nothing that it does not, and to an
//! `always` if they allow all that it does, and both are questions that two sets of policies can be compared by.

mod places;
mod written;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use cedar_policy::{EntityUid, Policy, PolicyId};

use super::generation::{PolicyGeneration, PolicySource};
use super::load::{
    CheckedNames, INVARIANTS_FILE, Literals, ParsedPolicy, PolicyErrors, PolicyFiles, PolicyProblem, Problems,
    SourceFile, StaticEntities, ancestors_above, beside, check, parse, text_digest, validate,
};
use super::schema::{self, MergedSchema};
use crate::config::nearest;
use written::{About, Written};

pub use written::Says;

/// A directory's policies and what they are to keep to.
#[derive(Debug)]
pub struct Invariants {
    digest: String,
    file: Arc<str>,
    invariants: Vec<Invariant>,
    warnings: Vec<PolicyProblem>,
}

/// One of them.
#[derive(Debug)]
pub struct Invariant {
    /// By what people know it.
    pub name: Arc<str>,
    /// Why it is there.
    pub reason: Option<String>,
    /// What it says of the requests that it is about.
    pub says: Says,
    /// The line of its name, from 1.
    pub line: usize,
    /// `never`: everything but this; `always`: just this. The policy that says what the invariant is about has its name.
    pub policies: PolicyGeneration,
}

impl Invariants {
    /// Loads a directory, or a bundle, with its invariants, or with those of another file.
    ///
    /// # Errors
    /// Everything that is wrong with the policies, or else with the invariants.
    pub fn load(source: &PolicySource, file: Option<&Path>) -> Result<(PolicyGeneration, Self), PolicyErrors> {
        let source = PolicySource { require_proof: false, shadow: None, ..source.clone() };
        let mut files = match &source.bundle {
            Some(bundle) => bundle.policy_files().clone(),
            None => PolicyFiles::read_settled(&source.directory)?,
        };
        // What it said before this is proved is of no interest.
        files.proof = Ok(None);
        let generation = PolicyGeneration::from_files(&files, &source, 1, None)?;
        let beside = match file {
            Some(path) => beside(path),
            None => files.invariants.clone(),
        };
        let Some(written) = beside.map_err(PolicyErrors::one)? else {
            let shown = file.map_or_else(
                || format!("{}/{INVARIANTS_FILE}", files.directory.name()),
                |path| path.display().to_string(),
            );
            let place = SourceFile::new(shown, "");
            let problem = PolicyProblem::error(&place, None, "there are no invariants to be proved");
            return Err(PolicyErrors::one(
                problem.help("docs/proving.md says how to write them; `--invariants FILE` says where they are"),
            ));
        };
        let invariants = Self::read(&written, &files, &source)?;
        Ok((generation, invariants))
    }

    fn read(file: &Arc<SourceFile>, files: &PolicyFiles, source: &PolicySource) -> Result<Self, PolicyErrors> {
        let mut problems = Problems::default();
        // They have been found to be sound: the policies loaded.
        let mut known = Problems::default();
        let schema = schema::merge(&files.schemas, &mut known);
        let Some(schema) = schema else {
            return Err(PolicyErrors::one(PolicyProblem::error(&files.directory, None, "schema does not merge")));
        };
        let entities = StaticEntities::parse(&files.entities, &schema.schema, &mut known);
        let ground =
            Ground { file, schema, names: Known::of(&parse(&files.policies, &mut known), &entities), entities };
        let mut invariants = Vec::new();
        for written in written::read(file, &mut problems) {
            match ground.invariant(written, source, &mut problems) {
                Ok(invariant) => invariants.extend(invariant),
                Err(cause) => problems.push(PolicyProblem::error(file, None, cause)),
            }
        }
        let warnings = problems.verdict()?;
        Ok(Self { digest: text_digest(file.text()), file: file.name().into(), invariants, warnings })
    }

    /// `sha256:HEX` over the file.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// In the order of the file.
    #[must_use]
    pub fn invariants(&self) -> &[Invariant] {
        &self.invariants
    }

    /// What is odd but not wrong.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyProblem] {
        &self.warnings
    }
}

/// What all invariants of a directory stand on.
struct Ground<'a> {
    file: &'a Arc<SourceFile>,
    schema: MergedSchema,
    entities: StaticEntities,
    names: Known,
}

impl Ground<'_> {
    fn invariant(
        &self,
        written: Written,
        source: &PolicySource,
        problems: &mut Problems,
    ) -> Result<Option<Invariant>, String> {
        // As a forbid it is checked: a permit of everybody is odd in policies, and not here.
        let (forbid, starts) = policy(&written, "forbid")?;
        let mut found = Problems::default();
        let parsed = [forbid];
        validate(&parsed, &self.schema, &mut found);
        let names = CheckedNames {
            endpoints: &source.endpoints,
            known: &source.known_endpoints,
            stages: &[],
            refuse_unknown: source.refuse_unknown_names,
        };
        check(&parsed, &self.entities, names, &mut found);
        let [forbid] = parsed;
        self.unheard_of(&forbid, &mut found);
        let place = |span: std::ops::Range<usize>| {
            let mut fields = written.fields.iter().zip(&starts);
            let of = fields.find(|(field, start)| (**start..**start + field.text.len()).contains(&span.start));
            let placed = of.map(|(field, start)| field.places.of(span.start - start..span.end - start));
            Some(placed.unwrap_or_else(|| written.span.clone()))
        };
        let named = format!("policy `{}`", written.name);
        let message = |said: String| said.replace(&named, &format!("invariant `{}`", written.name));
        for problem in found.into_all() {
            problems.push(problem.moved(self.file, place, message));
        }
        let parsed = match written.says {
            Says::Never => vec![everything()?, forbid],
            Says::Always => vec![policy(&written, "permit")?.0],
        };
        let policies = PolicyGeneration::made_up(parsed, &self.entities, self.schema.clone())?;
        let (line, _) = self.file.position(written.span.start);
        let Written { name, reason, says, .. } = written;
        Ok(Some(Invariant { name, reason, says, line, policies }))
    }

    /// Warns of names that neither policies nor entities.json speak of: what is said of a misspelt bucket holds for that reason.
    fn unheard_of(&self, forbid: &ParsedPolicy, problems: &mut Problems) {
        for (uid, span) in &forbid.literals {
            if let Some(help) = self.names.unheard_of(uid) {
                let message = format!("neither policies nor entities.json speak of `{uid}`");
                problems.push(PolicyProblem::warning(&forbid.file, Some(span.clone()), message).help(help));
            }
        }
    }
}

/// What policies and entities.json name.
struct Known(HashSet<EntityUid>);

impl Known {
    fn of(policies: &[ParsedPolicy], entities: &StaticEntities) -> Self {
        let named = policies.iter().flat_map(|policy| &policy.literals).map(|(uid, _)| EntityUid::clone(uid));
        let said = entities.iter().flat_map(|(uid, entity)| std::iter::once(uid).chain(&entity.ancestors)).cloned();
        Self(named.chain(said).collect())
    }

    /// What to do about a name that nobody speaks of.
    fn unheard_of(&self, uid: &EntityUid) -> Option<String> {
        let kind = uid.type_name().to_string();
        // Actions are the schema's; of those in no Stage or Group another warning tells.
        if self.0.contains(uid) || matches!(kind.as_str(), "Action" | "Stage" | "Group") {
            return None;
        }
        let id = uid.id().unescaped();
        let above = |uid: &EntityUid| ancestors_above(&uid.type_name().to_string(), uid.id().unescaped());
        if self.0.iter().any(|known| above(known).iter().any(|(of, above)| *of == kind && above == id)) {
            return None;
        }
        let alike = self.0.iter().filter(|known| known.type_name() == uid.type_name());
        let mut alike: Vec<&str> = alike.map(|known| known.id().unescaped()).collect();
        alike.sort_unstable();
        if let Some(meant) = nearest(id, alike) {
            return Some(format!("did you mean `{kind}::\"{meant}\"`?"));
        }
        let is_below = above(uid).iter().any(|(of, above)| {
            self.0.iter().any(|known| known.type_name().to_string() == *of && known.id().unescaped() == above)
        });
        (!is_below).then(|| "what it says may hold for no other reason: look at the spelling".to_owned())
    }
}

/// The invariant as a policy, and where each field begins in it.
fn policy(written: &Written, effect: &str) -> Result<(ParsedPolicy, Vec<usize>), String> {
    let is_scope = |about: About, text: &str| match about {
        About::Principals => Policy::parse(None, format!("permit ({text}\n, action, resource);")).is_ok(),
        About::Actions => Policy::parse(None, format!("permit (principal, {text}\n, resource);")).is_ok(),
        About::Resources => Policy::parse(None, format!("permit (principal, action, {text}\n);")).is_ok(),
        About::When => false,
    };
    let mut starts = vec![0; written.fields.len()];
    let mut text = format!("{effect} (");
    for (number, about) in [About::Principals, About::Actions, About::Resources].into_iter().enumerate() {
        text.push_str(if number > 0 { ", " } else { "" });
        let field = written.fields.iter().position(|field| field.about == about && is_scope(about, &field.text));
        match field.and_then(|at| Some((starts.get_mut(at)?, written.fields.get(at)?))) {
            Some((start, field)) => {
                *start = text.len();
                // What is written may end in a comment.
                text.push_str(&format!("{}\n", field.text));
            }
            None => text.push_str(about.variable().unwrap_or_default()),
        }
    }
    text.push(')');
    for (field, start) in written.fields.iter().zip(&mut starts).filter(|(_, start)| **start == 0) {
        text.push_str(" when {\n");
        *start = text.len();
        text.push_str(&format!("{}\n}}", field.text));
    }
    text.push(';');
    Ok((parsed(&written.name, text)?, starts))
}

/// A name that no invariant has.
const EVERYTHING: &str = "\n";

fn everything() -> Result<ParsedPolicy, String> {
    parsed(EVERYTHING, "permit (principal, action, resource);".to_owned())
}

fn parsed(id: &str, text: String) -> Result<ParsedPolicy, String> {
    let policy = Policy::parse(Some(PolicyId::new(id)), &text).map_err(|cause| cause.to_string())?;
    let (literals, span) = (Literals::default().of(&text), 0..text.len());
    let file = SourceFile::new("invariant", text);
    Ok(ParsedPolicy { policy, id: id.into(), file, span, literals })
}
