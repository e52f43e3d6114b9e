//! What the names of a text mean. (Signatures only: the catalogue's branch has the real one.)

use std::sync::Arc;

use super::catalog::{Catalog, Function, Relation};
use super::{SessionFacts, SqlRefusal};

#[derive(Debug)]
pub(super) struct Names<'a> {
    endpoint: &'a str,
    catalog: &'a Catalog,
    facts: &'a SessionFacts,
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) candidates: Vec<Candidate>,
    pub(super) nature: Nature,
}

#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) schema: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) function: Function,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Harmless,
    Introspects,
    Executes,
    ExecutesText,
    Setting,
    Sequence,
    LargeObject,
    AdvisoryLock,
    Notify,
    Unknown,
}

#[derive(Debug, Clone)]
pub(super) struct TypeMeaning {
    pub(super) oid: u32,
}

fn not_yet() -> SqlRefusal {
    SqlRefusal { sqlstate: "0A000", rule: "not-judged", message: String::new(), position: None, stale: false }
}

impl<'a> Names<'a> {
    pub(super) fn new(endpoint: &'a str, catalog: &'a Catalog, facts: &'a SessionFacts) -> Self {
        Self { endpoint, catalog, facts }
    }
    pub(super) fn endpoint(&self) -> &str {
        self.endpoint
    }
    pub(super) fn database(&self) -> &str {
        &self.catalog.database
    }
    pub(super) fn catalog(&self) -> &'a Catalog {
        self.catalog
    }
    pub(super) fn facts(&self) -> &SessionFacts {
        self.facts
    }
    pub(super) fn relation(&self, _database: &str, _schema: &str, _name: &str) -> Result<Arc<Relation>, SqlRefusal> {
        Err(not_yet())
    }
    pub(super) fn by_oid(&self, oid: u32) -> Option<Arc<Relation>> {
        self.catalog.relations.get(&oid).cloned()
    }
    pub(super) fn call(&self, _name: &[&str], _arguments: usize) -> Result<Call, SqlRefusal> {
        Err(not_yet())
    }
    pub(super) fn operator(&self, _name: &[&str]) -> Result<Call, SqlRefusal> {
        Err(not_yet())
    }
    pub(super) fn type_named(&self, _names: &[&str]) -> Result<TypeMeaning, SqlRefusal> {
        Err(not_yet())
    }
    pub(super) fn cast_to(&self, _meaning: &TypeMeaning) -> Call {
        Call { candidates: Vec::new(), nature: Nature::Harmless }
    }
}

pub(super) fn is_introspection_relation(relation: &Relation) -> bool {
    &*relation.schema == "pg_catalog"
}
