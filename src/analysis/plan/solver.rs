//! Questions to an SMT solver, which is a process of its own.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::residual::Residual;
use crate::mapping::ResourceKind;

/// How to reach the solver.
#[derive(Debug, Clone)]
pub struct Solver {
    /// The program: cvc5.
    pub program: PathBuf,
    /// How long it may think about one question.
    pub timeout: Duration,
}

impl Default for Solver {
    fn default() -> Self {
        Self { program: "cvc5".into(), timeout: Duration::from_secs(10) }
    }
}

impl Solver {
    /// What the program calls itself: the first line that `--version` prints.
    #[must_use]
    pub fn version(&self) -> String {
        let said = std::process::Command::new(&self.program).arg("--version").output();
        let said = said.map(|said| {
            String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or_default().chars().take(200).collect()
        });
        said.unwrap_or_else(|cause| format!("{} ({cause})", self.program.display()))
    }
}

/// Whether all that `granted` allows under the assumptions is allowed by `allowed`.
#[derive(Debug, Clone)]
pub(in crate::analysis) struct Query {
    pub(in crate::analysis) action: String,
    pub(in crate::analysis) kind: ResourceKind,
    /// In Cedar's own words.
    pub(in crate::analysis) assumptions: Vec<String>,
    pub(in crate::analysis) granted: Vec<Residual>,
    pub(in crate::analysis) allowed: Vec<Residual>,
    /// Policies of `allowed` that must be known never to err: an erring policy denies, and Cedar passes over it.
    pub(in crate::analysis) must_not_err: Vec<Residual>,
    /// That they err is what is asked, and all that is asked.
    pub(in crate::analysis) of_errors: bool,
}

impl Query {
    pub(in crate::analysis) fn residuals(&self) -> impl Iterator<Item = &Residual> {
        let errors = self.must_not_err.iter().filter(|_| self.of_errors);
        self.granted.iter().chain(&self.allowed).chain(errors)
    }
}

/// What the solver found.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "prove"), expect(dead_code, reason = "a build without prover asks nothing"))]
pub(in crate::analysis) enum Answer {
    Holds,
    /// A context and entities, in Cedar's JSON form, that are said to show the contrary. Not to be believed before the policies
    /// themselves have been asked.
    Refuted {
        context: Json,
        entities: Json,
    },
    Unknown(String),
}

#[cfg(not(feature = "prove"))]
pub(in crate::analysis) fn ask(queries: &[Query], _: &Solver) -> Vec<Answer> {
    let unknown = || Answer::Unknown("this build has no prover: build it with `--features prove`".to_owned());
    queries.iter().map(|_| unknown()).collect()
}

#[cfg(feature = "prove")]
pub(in crate::analysis) use symbolic::ask;

#[cfg(feature = "prove")]
mod symbolic {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cedar_policy::{EntityUid, Policy, PolicyId, PolicySet, RequestEnv, Schema};
    use cedar_policy_symcc::solver::LocalSolver;
    use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env};
    use serde_json::{Value as Json, json};
    use tokio::process::Command;
    use tokio::runtime;

    use super::super::residual::{Body, Residual};
    use super::{Answer, Query, Solver};
    use crate::policy::SHIPPED_SCHEMA;

    /// Cedar's symbolic compiler walks policies by recursion, a frame for each clause.
    const STACK: usize = 512 * 1024 * 1024;
    /// So many questions at a time, whatever the machine says of itself.
    const MIN_SOLVERS: usize = 2;
    /// Each is a process that may take some hundred megabytes.
    const MAX_SOLVERS: usize = 8;
    /// A solver that failed so many times in a row is not started again.
    const MAX_FAILURES: usize = 3;

    type Compiler = CedarSymCompiler<LocalSolver>;

    /// Puts the questions to as many solvers as there are cores for: each takes the next question as soon as it is free.
    pub(in crate::analysis) fn ask(queries: &[Query], solver: &Solver) -> Vec<Answer> {
        let solvers = std::thread::available_parallelism().map_or(MIN_SOLVERS, usize::from);
        let solvers = solvers.clamp(MIN_SOLVERS, MAX_SOLVERS).min(queries.len());
        let next = AtomicUsize::new(0);
        let mut answers: Vec<Option<Answer>> = queries.iter().map(|_| None).collect();
        let mut broken = "the prover broke down".to_owned();
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..solvers {
                let thread = std::thread::Builder::new().stack_size(STACK);
                match thread.spawn_scoped(scope, || some(queries, &next, solver)) {
                    Ok(thread) => threads.push(thread),
                    Err(cause) => broken = format!("no thread for the prover: {cause}"),
                }
            }
            for (number, answer) in threads.into_iter().filter_map(|thread| thread.join().ok()).flatten() {
                if let Some(place) = answers.get_mut(number) {
                    *place = Some(answer);
                }
            }
        });
        let missing = || Answer::Unknown(broken.clone());
        answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    /// Answers questions until there are no more.
    fn some(queries: &[Query], next: &AtomicUsize, solver: &Solver) -> Vec<(usize, Answer)> {
        let taken = std::iter::from_fn(|| {
            let number = next.fetch_add(1, Ordering::Relaxed);
            queries.get(number).map(|query| (number, query))
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(|cause| cause.to_string());
        let schema = Schema::from_cedarschema_str(SHIPPED_SCHEMA).map_err(|cause| cause.to_string());
        let (runtime, schema) = match (runtime, schema) {
            (Ok(runtime), Ok((schema, _))) => (runtime, schema),
            (Err(cause), _) | (_, Err(cause)) => {
                return taken.map(|(number, _)| (number, Answer::Unknown(cause.clone()))).collect();
            }
        };
        runtime.block_on(async {
            let mut asking = Asking { solver, schema, compiler: None, failures: 0, last: String::new() };
            let mut answers = Vec::new();
            for (number, query) in taken {
                answers.push((number, asking.ask(query).await));
            }
            answers
        })
    }

    struct Asking<'a> {
        solver: &'a Solver,
        schema: Schema,
        compiler: Option<Compiler>,
        failures: usize,
        last: String,
    }

    impl Asking<'_> {
        async fn ask(&mut self, query: &Query) -> Answer {
            if self.failures >= MAX_FAILURES {
                return Answer::Unknown(self.last.clone());
            }
            let compiled = match Compiled::new(query, &self.schema) {
                Ok(compiled) => compiled,
                Err(cause) => return Answer::Unknown(cause),
            };
            let mut compiler = match self.compiler.take().map_or_else(|| start(self.solver), Ok) {
                Ok(compiler) => compiler,
                Err(cause) => {
                    self.failures = MAX_FAILURES;
                    self.last.clone_from(&cause);
                    return Answer::Unknown(cause);
                }
            };
            // The solver keeps its own time; this is for one that does not answer at all.
            let patience = self.solver.timeout + self.solver.timeout / 2;
            match tokio::time::timeout(patience, compiled.ask(&mut compiler)).await {
                Ok(Ok(answer)) => {
                    self.failures = 0;
                    self.compiler = Some(compiler);
                    answer
                }
                Ok(Err(cause)) => self.failed(format!("the solver did not answer: {cause}")),
                Err(_) => self.failed(format!("the solver did not answer within {} s", patience.as_secs_f32())),
            }
        }

        /// The process is in no known state: the next question gets a new one.
        fn failed(&mut self, why: String) -> Answer {
            self.failures += 1;
            self.last.clone_from(&why);
            Answer::Unknown(why)
        }
    }

    fn start(solver: &Solver) -> Result<Compiler, String> {
        let missing = |cause: &dyn std::fmt::Display| {
            format!(
                "the solver `{}` cannot be started ({cause}): install cvc5 (Debian: `apt-get install cvc5`), or say where it is by `--solver PATH`",
                solver.program.display()
            )
        };
        let mut command = Command::new(&solver.program);
        // Cedar's patterns need what cvc5 calls experimental (`--strings-exp`).
        command
            .args(["--lang", "smt", "--strings-exp", &format!("--tlimit-per={}", solver.timeout.as_millis())])
            .kill_on_drop(true);
        let process = LocalSolver::from_command(&mut command).map_err(|error| match &error {
            cedar_policy_symcc::solver::SolverError::Io(cause) => missing(cause),
            other => missing(other),
        })?;
        CedarSymCompiler::new(process).map_err(|cause| missing(&cause))
    }

    struct Compiled {
        granted: CompiledPolicySet,
        allowed: CompiledPolicySet,
        must_not_err: Vec<CompiledPolicy>,
        of_errors: bool,
    }

    impl Compiled {
        fn new(query: &Query, schema: &Schema) -> Result<Self, String> {
            let env = RequestEnv::new(
                "Workload".parse().map_err(|cause| format!("{cause}"))?,
                uid("Action", &query.action)?,
                query.kind.as_str().parse().map_err(|cause| format!("{cause}"))?,
            );
            let assumed = query.assumptions.iter().map(|text| expression(text)).collect::<Result<Vec<_>, _>>()?;
            let set = |residuals: &[Residual], assumed: &[Json]| {
                let policies = residuals.iter().zip(0..).map(|(residual, number)| policy(residual, number, assumed));
                let set = PolicySet::from_policies(policies.collect::<Result<Vec<_>, _>>()?).map_err(said)?;
                CompiledPolicySet::compile(&set, &env, schema).map_err(said)
            };
            let alone = |residual: &Residual| {
                CompiledPolicy::compile(&policy(residual, 0, &assumed)?, &env, schema).map_err(said)
            };
            Ok(Self {
                granted: set(&query.granted, &assumed)?,
                allowed: set(&query.allowed, &[])?,
                must_not_err: query.must_not_err.iter().map(alone).collect::<Result<_, _>>()?,
                of_errors: query.of_errors,
            })
        }

        async fn ask(&self, compiler: &mut Compiler) -> Result<Answer, String> {
            if self.of_errors {
                let Some(policy) = self.must_not_err.first() else { return Ok(Answer::Holds) };
                return match compiler.check_never_errors_with_counterexample_opt(policy).await {
                    Ok(None) => Ok(Answer::Holds),
                    Ok(Some(model)) => Ok(refuted(&model)),
                    Err(cedar_policy_symcc::err::Error::SolverUnknown) => Ok(gave_up()),
                    Err(cause) => Err(said(cause)),
                };
            }
            for policy in &self.must_not_err {
                match compiler.check_never_errors_opt(policy).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(Answer::Unknown("a policy can fail, and then denies".to_owned())),
                    Err(cedar_policy_symcc::err::Error::SolverUnknown) => return Ok(gave_up()),
                    Err(cause) => return Err(said(cause)),
                }
            }
            match compiler.check_implies_with_counterexample_opt(&self.granted, &self.allowed).await {
                Ok(None) => Ok(Answer::Holds),
                Ok(Some(model)) => Ok(refuted(&model)),
                Err(cedar_policy_symcc::err::Error::SolverUnknown) => Ok(gave_up()),
                Err(cause) => Err(said(cause)),
            }
        }
    }

    fn gave_up() -> Answer {
        Answer::Unknown("the solver gave up: try a longer `--timeout`".to_owned())
    }

    fn refuted(model: &Env) -> Answer {
        let context = model.request.context().map(cedar_policy::Context::to_json_value);
        match (context, model.entities.to_json_value()) {
            (Some(Ok(context)), Ok(entities)) => {
                let principal = model.request.principal().map(|uid| json!(uid.id().unescaped()));
                let entities = json!({"principal": principal, "all": entities});
                Answer::Refuted { context, entities }
            }
            _ => Answer::Unknown("the solver's model cannot be read".to_owned()),
        }
    }

    fn said(cause: impl miette::Diagnostic) -> String {
        let related: Vec<String> = cause.related().into_iter().flatten().map(ToString::to_string).collect();
        if related.is_empty() { cause.to_string() } else { format!("{cause}: {}", related.join("; ")) }
    }

    fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
        EntityUid::from_json(json!({"type": kind, "id": id})).map_err(|cause| cause.to_string())
    }

    fn policy(residual: &Residual, number: usize, assumed: &[Json]) -> Result<Policy, String> {
        let when = |body: &Json| json!({"kind": "when", "body": body});
        let mut conditions: Vec<Json> = Vec::new();
        if residual.permits {
            conditions.extend(assumed.iter().map(when));
        }
        if let Body::Open(body) = &residual.body {
            conditions.push(when(body));
        }
        let policy = json!({
            "effect": if residual.permits { "permit" } else { "forbid" },
            "principal": {"op": "All"}, "action": {"op": "All"}, "resource": {"op": "All"},
            "conditions": conditions,
        });
        Policy::from_json(Some(PolicyId::new(format!("p{number}"))), policy).map_err(|cause| cause.to_string())
    }

    /// An expression in Cedar's JSON form.
    fn expression(text: &str) -> Result<Json, String> {
        let policy = Policy::parse(None, format!("permit (principal, action, resource) when {{ {text} }};"));
        let tree = policy.map_err(said)?.to_json().map_err(|cause| cause.to_string())?;
        tree.pointer("/conditions/0/body").cloned().ok_or_else(|| format!("`{text}` is no expression"))
    }
}
