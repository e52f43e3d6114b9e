//! Functions and operators: which ones a name may mean, and what calling them is.

use std::sync::Arc;

use super::{Names, refusals};
use crate::mapping::sql::catalog::{Function, FunctionKind};
use crate::mapping::sql::{SqlRefusal, harmless};

/// What a call may mean.
#[derive(Debug, Clone)]
pub(in crate::mapping::sql) struct Call {
    /// Every function that PostgreSQL could choose and that asks something: of a harmless call there are none.
    pub(in crate::mapping::sql) candidates: Vec<Candidate>,
    /// Those among what PostgreSQL could choose that ask nothing: what they return matters still.
    pub(in crate::mapping::sql) harmless: Vec<Candidate>,
    /// What calling it is. Whatever this says, [`Call::foreign`] candidates are asked `sql:Execute`.
    pub(in crate::mapping::sql) nature: Nature,
}

/// A function that a call may mean.
#[derive(Debug, Clone)]
pub(in crate::mapping::sql) struct Candidate {
    /// Its schema's name.
    pub(in crate::mapping::sql) schema: Arc<str>,
    /// Its name.
    pub(in crate::mapping::sql) name: Arc<str>,
    /// The function.
    pub(in crate::mapping::sql) function: Function,
}

/// What a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::mapping::sql) enum Nature {
    /// Asks nothing.
    Harmless,
    /// `sql:Introspect`: it tells what the catalogue says.
    Introspects,
    /// `sql:Execute` on each candidate.
    Executes,
    /// Also `sql:ExecuteCode`: it runs a text, or reads a table that a text names.
    ExecutesText,
    /// `set_config`.
    Setting,
    /// `nextval`, `currval`, `setval`. Which sequence `lastval` tells of is not in the text: it is a function like others.
    Sequence,
    /// `lo_*`.
    LargeObject,
    /// `pg_advisory_*`, `pg_try_advisory_*`.
    AdvisoryLock,
    /// `pg_notify`.
    Notify,
    /// There is none of that name: `42883`.
    Unknown,
}

impl Call {
    /// The candidates that did not come with the server.
    pub(in crate::mapping::sql) fn foreign(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| !candidate.is_built_in())
    }

    /// What casts may call: nothing, or functions that are somebody's.
    pub(super) fn of_casts(candidates: Vec<Candidate>) -> Self {
        let nature = if candidates.is_empty() { Nature::Harmless } else { Nature::Executes };
        Self { candidates, harmless: Vec::new(), nature }
    }

    fn of(candidates: Vec<Candidate>) -> Self {
        let natures = candidates.iter().map(Candidate::nature);
        let nature = natures.max_by_key(|nature| weight(*nature)).unwrap_or(Nature::Unknown);
        // What is harmless asks nothing; only what else the name may mean does.
        let (harmless, candidates) =
            candidates.into_iter().partition(|candidate| candidate.nature() == Nature::Harmless);
        Self { candidates, harmless, nature }
    }
}

/// The heavier of two natures that a call may have wins. A special one beats `Executes`, which foreign candidates are asked anyway.
const fn weight(nature: Nature) -> u8 {
    match nature {
        Nature::Unknown => 0,
        Nature::Harmless => 1,
        Nature::Introspects => 2,
        Nature::Executes => 3,
        Nature::AdvisoryLock => 4,
        Nature::Sequence => 5,
        Nature::Notify => 6,
        Nature::LargeObject => 7,
        Nature::Setting => 8,
        Nature::ExecutesText => 9,
    }
}

impl Candidate {
    fn is_built_in(&self) -> bool {
        harmless::is_built_in(&self.schema, &self.function)
    }

    fn nature(&self) -> Nature {
        harmless::nature(&self.schema, &self.name, &self.function)
    }
}

impl Names<'_> {
    /// The functions that a call may mean. `arguments` as PostgreSQL's parser counts them: `f(*)` has none, `(x).f` one, and what stands
    /// in WITHIN GROUP (ORDER BY …) counts too.
    ///
    /// # Errors
    /// `3F000` for a schema that does not exist, `0A000` for another database.
    pub(in crate::mapping::sql) fn call(&self, name: &[&str], arguments: usize) -> Result<Call, SqlRefusal> {
        let mut candidates = self.functions_named(name)?;
        let takes = |candidate: &Candidate| takes(&candidate.function, arguments);
        // None that fits: the server will say so, whatever is permitted.
        if candidates.iter().any(takes) {
            candidates.retain(takes);
        }
        Ok(Call::of(candidates))
    }

    /// The functions behind the operators that a name may mean.
    ///
    /// # Errors
    /// As for [`Names::call`].
    pub(in crate::mapping::sql) fn operator(&self, name: &[&str]) -> Result<Call, SqlRefusal> {
        let (schema, name) = self.parts(name)?;
        let schemas = self.schemas_of_calls(schema)?;
        let mut candidates: Vec<Candidate> = Vec::new();
        for operator in schemas.iter().flat_map(|schema| {
            let operators = self.catalog.schemas.get(*schema).and_then(|schema| schema.operators.get(name));
            operators.into_iter().flatten()
        }) {
            if candidates.iter().any(|known| known.function.oid == operator.function_oid) {
                continue;
            }
            let (schema, name) = (&operator.function_schema, &operator.function);
            let function = self.functions_in(schema, name).find(|function| function.oid == operator.function_oid);
            candidates.extend(function.map(|function| Candidate {
                schema: Arc::clone(schema),
                name: Arc::clone(name),
                function,
            }));
        }
        Ok(Call::of(candidates))
    }

    /// Every function of a name, however many arguments it takes.
    ///
    /// # Errors
    /// As for [`Names::call`].
    pub(in crate::mapping::sql) fn functions_named(&self, name: &[&str]) -> Result<Vec<Candidate>, SqlRefusal> {
        let (schema, name) = self.parts(name)?;
        let mut candidates = Vec::new();
        for schema in self.schemas_of_calls(schema)? {
            let (schema, name): (Arc<str>, Arc<str>) = (schema.into(), name.into());
            for function in self.functions_in(&schema, &name) {
                candidates.push(Candidate { schema: Arc::clone(&schema), name: Arc::clone(&name), function });
            }
        }
        Ok(candidates)
    }

    fn schemas_of_calls<'n>(&'n self, schema: Option<&'n str>) -> Result<Vec<&'n str>, SqlRefusal> {
        match schema {
            None => {
                self.path_must_be_known()?;
                Ok(self.path.without_temp().collect())
            }
            Some(schema) if !self.schema_exists(schema) => Err(refusals::schema(schema)),
            Some(schema) => Ok(vec![self.real_schema(schema)]),
        }
    }

    /// All functions of exactly this schema and name.
    pub(super) fn functions_in(&self, schema: &str, name: &str) -> impl Iterator<Item = Function> {
        let known = self.catalog.schemas.get(schema).and_then(|schema| schema.functions.get(name));
        let created = self.created.functions.get(schema, name);
        known.into_iter().chain(created).flatten().cloned()
    }
}

/// Aggregates fit always: how many arguments a call of one has depends on WITHIN GROUP, and asking for one too many beats missing one.
fn takes(function: &Function, arguments: usize) -> bool {
    let arguments = u16::try_from(arguments).unwrap_or(u16::MAX);
    let fits = function.arguments_least <= arguments && function.arguments_most.is_none_or(|most| arguments <= most);
    fits || function.kind == FunctionKind::Aggregate
}
