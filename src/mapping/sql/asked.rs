//! What a statement asks, collected: one operation for each action on each resource.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::catalog::Relation;
use super::introspection::{is_introspection_relation, protected_columns};
use super::names::{Call, Candidate, Names, Nature};
use super::places::Places;
use super::rewrite::Planned;
use super::{Effects, SqlRefusal};
use crate::mapping::{Action, Context, Operation, Operations, Resource, Value, push_sql_name};

/// What a statement asks, collected in the order met.
#[derive(Debug, Default)]
pub(super) struct Asked {
    asks: Vec<Ask>,
    places: Places,
    effects: Effects,
    literals_matter: bool,
    rewrites: Vec<Planned>,
    capped: Option<Arc<str>>,
}

/// One operation to be: columns of the same table come together.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) action: &'static str,
    pub(super) target: Target,
    columns: BTreeSet<Arc<str>>,
    pub(super) context: Vec<(&'static str, Value)>,
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Database,
    Schema(Arc<str>),
    Table(Box<Named>),
    Function(Arc<str>, Arc<str>),
}

/// A relation as far as operations say something of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) schema: Arc<str>,
    pub(super) name: Arc<str>,
    partition_of: Vec<u32>,
    base: Vec<(u32, Option<Arc<str>>)>,
    as_caller: Vec<(u32, Option<Arc<str>>)>,
}

impl Target {
    fn is(&self, relation: &Relation) -> bool {
        matches!(self, Self::Table(t) if t.name == relation.name && t.schema == relation.schema)
    }
}

impl Named {
    fn new(relation: &Relation) -> Self {
        Self {
            schema: Arc::clone(&relation.schema),
            name: Arc::clone(&relation.name),
            partition_of: relation.partition_of.clone(),
            base: relation.base.clone(),
            as_caller: relation.as_caller.clone(),
        }
    }
}

impl Asked {
    /// Reads columns of a relation: `sql:Select`, with what generated columns are made of. Relations of the shipped list of the
    /// catalogue become one `sql:Introspect` on the database. No columns (`count(*)`) is a read of its own.
    pub(super) fn read(&mut self, relation: &Relation, columns: impl IntoIterator<Item = Arc<str>>) {
        if is_introspection_relation(relation) {
            self.on_database("sql:Introspect", Vec::new());
            let protected = protected_columns(relation);
            let columns: Vec<_> = columns.into_iter().filter(|column| protected.contains(&&**column)).collect();
            if !columns.is_empty() {
                self.write("sql:Select", relation, columns);
            }
            return;
        }
        let columns: Vec<_> = columns.into_iter().flat_map(|column| with_inputs(relation, column)).collect();
        self.write("sql:Select", relation, columns);
    }

    /// Does something to a relation, or to columns of it: `sql:Insert`, `sql:Update`, `sql:Lock` …
    pub(super) fn write(
        &mut self,
        action: &'static str,
        relation: &Relation,
        columns: impl IntoIterator<Item = Arc<str>>,
    ) {
        let same = |ask: &Ask| ask.action == action && ask.target.is(relation);
        let known = match Places::few(&self.asks) {
            true => self.asks.iter().position(same),
            false => self.places.of_table(action, relation, |at| self.asks.get(at).is_some_and(same)),
        };
        if let Some(ask) = known.and_then(|at| self.asks.get_mut(at)) {
            ask.columns.extend(columns);
            return;
        }
        self.push(Ask {
            action,
            target: Target::Table(Box::new(Named::new(relation))),
            columns: columns.into_iter().collect(),
            context: Vec::new(),
        });
    }

    /// Calls a function, or whatever an operator or a cast calls. What hangs on arguments (settings, sequences, channels) is for the walk,
    /// which knows them.
    ///
    /// # Errors
    /// Functions whose meaning is in their arguments: here those are not known.
    pub(super) fn call(&mut self, call: &Call) -> Result<(), SqlRefusal> {
        if call.nature != Nature::Executes && call.nature != Nature::ExecutesText {
            for candidate in call.foreign() {
                self.execute(std::slice::from_ref(candidate));
            }
        }
        match call.nature {
            Nature::Harmless => return Ok(()),
            Nature::Introspects => self.on_database("sql:Introspect", Vec::new()),
            Nature::Executes => self.execute(&call.candidates),
            Nature::ExecutesText => {
                self.execute(&call.candidates);
                self.on_database("sql:ExecuteCode", Vec::new());
            }
            Nature::LargeObject => self.on_database("sql:LargeObject", Vec::new()),
            Nature::AdvisoryLock => self.on_database("sql:Lock", Vec::new()),
            Nature::Notify => self.on_database("sql:Notify", Vec::new()),
            Nature::Setting | Nature::Sequence => {
                return Err(refused("arguments-not-known", "a function is called whose meaning is in its arguments"));
            }
            Nature::Unknown => return Err(unknown("42883", "function does not exist".to_owned())),
        }
        self.literals_matter = true;
        Ok(())
    }

    /// `sql:Execute` on each candidate; what they do is not known.
    pub(super) fn execute(&mut self, candidates: &[Candidate]) {
        for candidate in candidates {
            self.on_function("sql:Execute", &candidate.schema, &candidate.name);
        }
        self.effects.anything = true;
        self.literals_matter = true;
    }

    /// Something on the database itself. The same thing is asked once.
    pub(super) fn on_database(&mut self, action: &'static str, context: Vec<(&'static str, Value)>) {
        self.on(action, Target::Database, context);
    }

    /// Something on a relation that has more to it than columns: an index, a trigger, a new owner.
    pub(super) fn on_relation(
        &mut self,
        action: &'static str,
        relation: &Relation,
        context: Vec<(&'static str, Value)>,
    ) {
        self.on(action, Target::Table(Box::new(Named::new(relation))), context);
    }

    /// Something on a schema.
    pub(super) fn on_schema(&mut self, action: &'static str, schema: &str, context: Vec<(&'static str, Value)>) {
        self.on(action, Target::Schema(schema.into()), context);
    }

    /// Something on all functions of one name.
    pub(super) fn on_function(&mut self, action: &'static str, schema: &Arc<str>, name: &Arc<str>) {
        self.on(action, Target::Function(Arc::clone(schema), Arc::clone(name)), Vec::new());
    }

    fn on(&mut self, action: &'static str, target: Target, context: Vec<(&'static str, Value)>) {
        let ask = Ask { action, target, columns: BTreeSet::new(), context };
        let same =
            |known: &Ask| known.action == ask.action && known.target == ask.target && known.context == ask.context;
        let known = match Places::few(&self.asks) {
            true => self.asks.iter().any(same),
            false => self.places.of_whole(&ask, |at| self.asks.get(at).is_some_and(same)),
        };
        if !known {
            self.push(ask);
        }
    }

    /// All that another statement asks, which is a part of this one.
    pub(super) fn also(&mut self, other: Self) {
        for ask in other.asks {
            self.push(ask);
        }
        self.effects.settings |= other.effects.settings;
        self.effects.names |= other.effects.names;
        self.effects.anything |= other.effects.anything;
        self.literals_matter |= other.literals_matter;
        self.rewrites.extend(other.rewrites);
        self.capped = self.capped.take().or(other.capped);
    }

    fn push(&mut self, ask: Ask) {
        self.asks.push(ask);
        self.places.follow(&self.asks);
    }

    /// What it may change of what later statements mean.
    pub(super) fn effects_mut(&mut self) -> &mut Effects {
        &mut self.effects
    }

    /// Another text that differs only in literals may mean something else.
    pub(super) fn literals_matter(&mut self) {
        self.literals_matter = true;
    }

    /// A value of the text is to be written anew.
    pub(super) fn rewrite(&mut self, planned: Planned) {
        self.rewrites.push(planned);
    }

    /// The values that are to be written anew.
    pub(super) fn rewrites(&self) -> &[Planned] {
        &self.rewrites
    }

    /// A timeout is set to its cap in place of more: what the client is told of it.
    pub(super) fn note_capped(&mut self, words: Arc<str>) {
        self.capped.get_or_insert(words);
    }

    /// What the client is told of a timeout that is set to its cap.
    pub(super) const fn capped(&self) -> Option<&Arc<str>> {
        self.capped.as_ref()
    }

    /// Nothing but reads so far, by functions that nobody needs to judge: how many rows come back can be bounded.
    pub(super) fn only_reads(&self) -> bool {
        !self.effects.any() && self.asks.iter().all(|ask| matches!(ask.action, "sql:Select" | "sql:Introspect"))
    }

    /// What `security_invoker` views read is checked for the caller: it is asked as if the caller had written it. Which of it a write through
    /// the view reaches is not followed: all of it, all columns.
    ///
    /// # Source
    /// PostgreSQL, CREATE VIEW, and `rewriteTargetView` in `src/backend/rewrite/rewriteHandler.c`.
    fn through_views(&mut self, names: &Names<'_>) {
        let mut reached = Vec::new();
        for ask in &self.asks {
            let Target::Table(view) = &ask.target else { continue };
            let writes = matches!(ask.action, "sql:Insert" | "sql:Update" | "sql:Delete" | "sql:Merge" | "sql:Lock");
            if !writes && ask.action != "sql:Select" {
                continue;
            }
            for (oid, column) in &view.as_caller {
                let Some(relation) = names.by_oid(*oid) else { continue };
                reached.push(("sql:Select", Arc::clone(&relation), column.iter().cloned().collect()));
                if writes {
                    let takes_columns = matches!(ask.action, "sql:Insert" | "sql:Update");
                    let all = relation.columns.iter().filter(|_| takes_columns);
                    let all: Vec<Arc<str>> = all.map(|column| Arc::clone(&column.name)).collect();
                    reached.push((ask.action, relation, all));
                }
            }
        }
        for (action, relation, columns) in reached {
            if action == "sql:Select" { self.read(&relation, columns) } else { self.write(action, &relation, columns) }
        }
    }

    /// Everything asked, what it may change, and whether its literals matter. Nothing asked is `sql:Connect` on the database.
    pub(super) fn finish(mut self, names: &Names<'_>, kind: &'static str) -> (Operations, Effects, bool) {
        self.through_views(names);
        let operations = self.asks.into_iter().map(|ask| operation(ask, names, kind)).collect();
        let operations = Operations::all(operations).unwrap_or_else(|| {
            let connect =
                Ask { action: "sql:Connect", target: Target::Database, columns: BTreeSet::new(), context: Vec::new() };
            Operations::one(operation(connect, names, kind))
        });
        (operations, self.effects, self.literals_matter)
    }
}

/// A column and, if it is a generated one, the columns that it is made of.
fn with_inputs(relation: &Relation, column: Arc<str>) -> Vec<Arc<str>> {
    let inputs = relation.columns.iter().find(|known| known.name == column).map(|known| &known.generated_from);
    let mut all = inputs.cloned().unwrap_or_default();
    all.push(column);
    all
}

fn operation(ask: Ask, names: &Names<'_>, kind: &'static str) -> Operation {
    let (endpoint, database) = (names.endpoint(), names.database());
    let mut context = Context::default();
    context.set("columns", Value::Strings(ask.columns.iter().map(|column| (**column).into()).collect()));
    context.set("statement", kind);
    context.set("role", &*names.facts().role);
    let resource = match ask.target {
        Target::Database => Resource::database(endpoint, database),
        Target::Schema(schema) => Resource::schema(endpoint, database, names.written_schema(&schema)),
        Target::Function(schema, name) => Resource::function(endpoint, database, names.written_schema(&schema), &name),
        Target::Table(table) => {
            if !table.base.is_empty() {
                context.set("base", Value::Strings(base(&table.base, names)));
            }
            let wholes = table.partition_of.iter().filter_map(|oid| names.by_oid(*oid));
            let wholes: Vec<_> = wholes.map(|whole| named(names, &whole.schema, &whole.name)).collect();
            named(names, &table.schema, &table.name).partition_of(wholes)
        }
    };
    for (name, value) in ask.context {
        context.set(name, value);
    }
    Operation { action: Action::named(ask.action), resource, context }
}

/// The Table of a relation.
pub(super) fn named(names: &Names<'_>, schema: &str, name: &str) -> Resource {
    Resource::table(names.endpoint(), names.database(), names.written_schema(schema), name)
}

/// A view's tables and columns, as ids write names: `public.people`, `public.people.ssn`.
fn base(base: &[(u32, Option<Arc<str>>)], names: &Names<'_>) -> Vec<Box<str>> {
    let mut all = BTreeSet::new();
    for (oid, column) in base {
        let Some(relation) = names.by_oid(*oid) else { continue };
        let mut id = String::new();
        push_sql_name(&mut id, names.written_schema(&relation.schema));
        id.push('.');
        push_sql_name(&mut id, &relation.name);
        if let Some(column) = column {
            let table = id.clone();
            all.insert(table.into_boxed_str());
            id.push('.');
            push_sql_name(&mut id, column);
        }
        all.insert(id.into_boxed_str());
    }
    all.into_iter().collect()
}

/// What cannot be judged.
pub(super) fn refused(rule: &'static str, message: impl Into<String>) -> SqlRefusal {
    SqlRefusal { sqlstate: "0A000", rule, message: message.into(), position: None, stale: false }
}

/// A name that the catalogue does not have, in PostgreSQL's own words.
pub(super) fn unknown(sqlstate: &'static str, message: impl Into<String>) -> SqlRefusal {
    SqlRefusal { sqlstate, rule: "unknown-name", message: message.into(), position: None, stale: true }
}
