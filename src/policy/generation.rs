//! One load of a policy directory: policies, entities and schema that belong together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cedar_policy::{ActionConstraint, Effect};

use super::bundle::PolicyBundle;
use super::decision::{Candidate, Decision};
use super::engine::{Compilable, Engine, Given, Principal};
use super::load::{
    CheckedNames, ParsedPolicy, PolicyErrors, PolicyFiles, PolicyProblem, Problems, Reads, StaticEntities, check,
    check_entities, check_stages, parse, validate,
};
use super::proof;
use super::schema::{self, MergedSchema};
use super::shadow::{ShadowDirectory, Tried};
use crate::identity::SpiffeId;
use crate::mapping::{Context, HeadersRead, Operation, Resource, TagsRead};

/// Where policies come from, and the names that exist outside of them.
#[derive(Debug, Clone, Default)]
pub struct PolicySource {
    /// `*.cedar`, `entities.json`, `entities/*.json`, further `*.cedarschema`. Where policies come as bundles: what stands for their
    /// place in messages.
    pub directory: PathBuf,
    /// A bundle in place of the directory.
    pub bundle: Option<Arc<PolicyBundle>>,
    /// The endpoints of this sidecar, each with its protocol as the configuration writes it. With none at all (a directory checked by
    /// itself) nothing is said about endpoints.
    pub endpoints: Vec<(String, &'static str)>,
    /// Endpoints of other sidecars that policies may speak of.
    pub known_endpoints: Vec<String>,
    /// Stages that the configuration itself names: those of role tables.
    pub stages: Vec<String>,
    /// Whether a Stage that nobody is in or an unknown endpoint is an error rather than a warning.
    pub refuse_unknown_names: bool,
    /// A candidate that decides beside the directory and is never enforced.
    pub shadow: Option<PathBuf>,
    /// Whether a directory is refused without a `proof.json` that is of it.
    pub require_proof: bool,
}

/// Policies in force: immutable, and asked by any thread.
#[derive(Debug)]
pub struct PolicyGeneration {
    number: u64,
    digest: String,
    engine: Engine,
    /// Of the policies in force.
    headers_enforced: TagsRead,
    /// Of these and the candidates.
    headers_read: TagsRead,
    claims_read: TagsRead,
    max_rows: HashMap<Arc<str>, u64>,
    policies: Vec<LoadedPolicy>,
    inactive: Vec<Arc<str>>,
    warnings: Vec<PolicyProblem>,
    candidates: Vec<Arc<Tried>>,
    shadow: Option<ShadowDirectory>,
}

/// A policy and where it stands.
#[derive(Debug, Clone)]
pub struct LoadedPolicy {
    /// Its `@id`.
    pub id: Arc<str>,
    /// The file.
    pub file: Arc<str>,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// Line and column of `permit` or `forbid`, from 1; the column counts characters.
    pub effect_at: (usize, usize),
    /// The policy as it is written.
    pub text: Arc<str>,
    /// It has `@mode("shadow")`: it is tried, not enforced.
    pub shadow: bool,
    /// It permits; else it forbids.
    pub permits: bool,
    /// The actions and groups that its scope names; none if it is about any.
    pub actions: Vec<Box<str>>,
}

impl LoadedPolicy {
    fn of(parsed: &ParsedPolicy) -> Self {
        let named = match parsed.policy.action_constraint() {
            ActionConstraint::Any => Vec::new(),
            ActionConstraint::Eq(uid) => vec![uid],
            ActionConstraint::In(uids) => uids,
        };
        Self {
            id: Arc::clone(&parsed.id),
            file: parsed.file.name().into(),
            line: parsed.file.position(parsed.span.start).0,
            effect_at: parsed.file.position(parsed.headline().start),
            text: parsed.text().into(),
            shadow: parsed.is_shadow(),
            permits: parsed.policy.effect() == Effect::Permit,
            actions: named.iter().map(|uid| uid.id().unescaped().into()).collect(),
        }
    }
}

impl PolicyGeneration {
    /// Loads the directory, or the bundle, as generation `number`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(source: &PolicySource, number: u64) -> Result<Self, PolicyErrors> {
        let shadow = source.shadow.as_ref().and_then(|directory| ShadowDirectory::look(directory, source, None));
        match &source.bundle {
            Some(bundle) => Self::from_files(bundle.policy_files(), source, number, shadow),
            None => Self::from_files(&PolicyFiles::read_settled(&source.directory)?, source, number, shadow),
        }
    }

    /// Generation 0: there are no policies yet, so that everything is denied.
    ///
    /// # Errors
    /// The shipped schema does not load.
    pub(super) fn none(source: &PolicySource) -> Result<Self, PolicyErrors> {
        let files = PolicyFiles::none(&source.directory.display().to_string());
        let nothing = Self::from_files(&files, &PolicySource::default(), 0, None)?;
        Ok(Self { warnings: Vec::new(), ..nothing })
    }

    pub(super) fn from_files(
        files: &PolicyFiles,
        source: &PolicySource,
        number: u64,
        shadow: Option<ShadowDirectory>,
    ) -> Result<Self, PolicyErrors> {
        let mut problems = Problems::default();
        let schema = schema::merge(&files.schemas, &mut problems);
        let parsed = parse(&files.policies, &mut problems);
        let Some(schema) = schema else {
            problems.verdict()?;
            return Err(PolicyErrors::one(PolicyProblem::error(&files.directory, None, "schema does not merge")));
        };
        let entities = StaticEntities::parse(&files.entities, &schema.schema, &mut problems);
        validate(&parsed, &schema, &mut problems);
        let names = CheckedNames {
            endpoints: &source.endpoints,
            known: &source.known_endpoints,
            stages: &source.stages,
            refuse_unknown: source.refuse_unknown_names,
        };
        let inactive = check(&parsed, &entities, names, &mut problems);
        check_entities(&entities, names, &mut problems);
        check_stages(&files.directory, &entities, names, &mut problems);
        if files.policies.is_empty() {
            problems.push(PolicyProblem::warning(
                &files.directory,
                None,
                "there are no *.cedar files: everything is denied",
            ));
        }
        proof::check(files, source, &mut problems);
        let warnings = problems.verdict()?;

        let max_rows = parsed.iter().filter_map(|parsed| Some((Arc::clone(&parsed.id), parsed.max_rows()?))).collect();
        let inactive =
            inactive.into_iter().filter_map(|n| parsed.get(n)).map(|parsed| Arc::clone(&parsed.id)).collect();
        let (policies, all) = compilable(parsed);
        let mut reads = Reads::default();
        let enforced = all.iter().zip(&policies).filter(|(_, loaded)| !loaded.shadow);
        enforced.for_each(|(policy, _)| reads.add(&policy.reads));
        let (headers_enforced, _) = reads.into_tags();
        let mut reads = Reads::default();
        all.iter().for_each(|policy| reads.add(&policy.reads));
        let (mut headers_read, mut claims_read) = reads.into_tags();
        let mut candidates = Vec::new();
        if let Some(tried) = shadow.as_ref().and_then(|shadow| shadow.tried.clone()) {
            headers_read.add(&tried.headers_read);
            claims_read.add(&tried.claims_read);
            candidates.push(tried);
        }
        let engine = |compilable: Vec<Compilable>| {
            Engine::compile(compilable.into_iter(), &entities, schema.clone())
                .map_err(|cause| PolicyErrors::one(PolicyProblem::error(&files.directory, None, cause)))
        };
        if policies.iter().any(|policy| policy.shadow) {
            candidates.push(Arc::new(Tried {
                of: Candidate::Annotated,
                engine: engine(all.clone())?,
                headers_read: headers_read.clone(),
                claims_read: claims_read.clone(),
                digest: files.digest.as_str().into(),
            }));
        }
        let enforced = all.into_iter().zip(&policies).filter(|(_, loaded)| !loaded.shadow);
        let enforced = engine(enforced.map(|(policy, _)| policy).collect())?;
        Ok(Self {
            number,
            digest: files.digest.clone(),
            engine: enforced,
            headers_enforced,
            headers_read,
            claims_read,
            max_rows,
            inactive,
            policies,
            warnings,
            candidates,
            shadow,
        })
    }

    /// Policies that are in no directory, with the entities and the schema of one that was loaded: to be compared with its policies.
    pub(super) fn made_up(
        parsed: Vec<ParsedPolicy>,
        entities: &StaticEntities,
        schema: MergedSchema,
    ) -> Result<Self, String> {
        let (policies, compilable) = compilable(parsed);
        let mut reads = Reads::default();
        compilable.iter().for_each(|policy| reads.add(&policy.reads));
        let (headers_read, claims_read) = reads.into_tags();
        Ok(Self {
            number: 0,
            digest: String::new(),
            engine: Engine::compile(compilable.into_iter(), entities, schema)?,
            headers_enforced: headers_read.clone(),
            headers_read,
            claims_read,
            max_rows: HashMap::new(),
            policies,
            inactive: Vec::new(),
            warnings: Vec::new(),
            candidates: Vec::new(),
            shadow: None,
        })
    }

    pub(super) fn into_candidate(self) -> Tried {
        let Self { engine, headers_read, claims_read, digest, .. } = self;
        Tried { of: Candidate::Directory, engine, headers_read, claims_read, digest: digest.into() }
    }

    pub(super) fn candidates(&self) -> &[Arc<Tried>] {
        &self.candidates
    }

    pub(super) const fn shadow(&self) -> Option<&ShadowDirectory> {
        self.shadow.as_ref()
    }

    /// The digest of the candidate of `policy.shadow` that is tried.
    #[must_use]
    pub fn shadow_digest(&self) -> Option<&str> {
        Some(&*self.shadow.as_ref()?.tried.as_ref()?.digest)
    }

    /// Why what is in `policy.shadow` is not tried.
    #[must_use]
    pub fn shadow_fault(&self) -> Option<&str> {
        self.shadow.as_ref()?.fault.as_deref()
    }

    /// Counts from 1 for each store; a reload that changes something counts on. 0 as long as there are no policies yet.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// `sha256:HEX` over the names and contents of all files.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The request headers that some policy can see.
    #[must_use]
    pub const fn headers_read(&self) -> HeadersRead<'_> {
        HeadersRead { enforced: &self.headers_enforced, all: &self.headers_read }
    }

    /// The claims of tokens that some policy can see, beyond those that every token has.
    #[must_use]
    pub const fn claims_read(&self) -> &TagsRead {
        &self.claims_read
    }

    /// Whether any policy has `@max_rows`.
    #[must_use]
    pub fn limits_rows(&self) -> bool {
        !self.max_rows.is_empty()
    }

    /// The `@max_rows` of a policy.
    #[must_use]
    pub fn max_rows(&self, policy: &str) -> Option<u64> {
        self.max_rows.get(policy).copied()
    }

    /// What is odd but not wrong.
    #[must_use]
    pub fn warnings(&self) -> &[PolicyProblem] {
        &self.warnings
    }

    /// The `@id`s of policies about other sidecars' endpoints.
    #[must_use]
    pub fn inactive(&self) -> &[Arc<str>] {
        &self.inactive
    }

    /// All policies, in the order of the files.
    #[must_use]
    pub fn policies(&self) -> &[LoadedPolicy] {
        &self.policies
    }

    pub(super) const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there is no policy, so that everything is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// A workload with all that this generation knows of it. Made once for a connection; one of another generation is made anew by
    /// every decision.
    #[must_use]
    pub fn principal(&self, id: &SpiffeId) -> Arc<Principal> {
        let mut principal = self.engine.principal(id);
        principal.candidates = self.candidates.iter().map(|tried| tried.engine.principal(id)).collect();
        Arc::new(principal)
    }

    /// What entities.json says of a resource; none if that is nothing.
    #[must_use]
    pub fn given(&self, resource: &Resource) -> Option<Given<'_>> {
        self.engine.given(resource)
    }

    /// Decides one operation. `facts` are those that all operations of a request share.
    #[must_use]
    pub fn decide(&self, principal: &Principal, operation: &Operation, facts: &Context) -> Decision {
        self.engine.decide(principal, operation, facts)
    }
}

/// What a policy reads is told from its tree, which Cedar makes anew from the text: once for all that are alike.
fn reads(parsed: &[ParsedPolicy]) -> Vec<Arc<Reads>> {
    let mut by_shape: HashMap<String, Arc<Reads>> = HashMap::new();
    let none = Arc::new(Reads::default());
    let reads = parsed.iter().map(|parsed| match parsed.policy.has_non_scope_constraint() {
        true => {
            let shape = by_shape.entry(parsed.shape());
            Arc::clone(shape.or_insert_with(|| Arc::new(Reads::of(&parsed.policy))))
        }
        false => Arc::clone(&none),
    });
    reads.collect()
}

/// What is told of policies, and what is compiled. Trees of many of them take much memory: each part is let go of as soon as it can be.
fn compilable(mut parsed: Vec<ParsedPolicy>) -> (Vec<LoadedPolicy>, Vec<Compilable>) {
    let reads = reads(&parsed);
    parsed.iter_mut().for_each(|parsed| parsed.literals = Vec::new());
    let policies = parsed.iter().map(LoadedPolicy::of).collect();
    let parts = parsed.into_iter().zip(reads);
    (policies, parts.map(|(parsed, reads)| Compilable { id: parsed.id, policy: parsed.policy, reads }).collect())
}

impl PolicySource {
    /// A directory by itself, with nothing known about endpoints.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..Self::default() }
    }
}
