//! What the fuzz targets call.

use std::sync::Arc;

use super::catalog::{Catalog, Column, Relation, RelationKind, Schema};
use super::facts::NothingPrepared;
use super::{SessionFacts, map, map_replication, safe_key};
use crate::config::SessionCaps;

/// A database with one table, `public.t (a, b)`.
fn catalog() -> Catalog {
    let column = |name: &str| Column { name: name.into(), type_oid: 25, generated_from: Vec::new() };
    let table = Relation {
        oid: 20_000,
        schema: "public".into(),
        name: "t".into(),
        kind: RelationKind::Table,
        columns: vec![column("a"), column("b")],
        partition_of: Vec::new(),
        inherited_by: Vec::new(),
        base: Vec::new(),
        as_caller: Vec::new(),
        referenced_by: Vec::new(),
        row_type: 20_001,
    };
    let mut public = Schema::default();
    public.relations.insert("t".into(), table.oid);
    let mut catalog = Catalog { major: 18, database: "d".into(), ..Catalog::default() };
    catalog.schemas.insert("public".into(), Arc::new(public));
    catalog.schemas.insert("pg_catalog".into(), Arc::default());
    catalog.relations.insert(table.oid, Arc::new(table));
    catalog
}

fn facts() -> SessionFacts {
    SessionFacts {
        role: "r".into(),
        session_role: "r".into(),
        search_path: vec!["public".into()],
        temp_schema: None,
        utf8_client: true,
        utf8_server: true,
        caps: SessionCaps::default(),
    }
}

/// For fuzzing: whatever the text, no panic, and the same answer twice.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (catalog, facts) = (catalog(), facts());
    let mapped = map(text, "wh", &catalog, &facts, &NothingPrepared);
    assert_eq!(mapped, map(text, "wh", &catalog, &facts, &NothingPrepared));
}

/// For fuzzing: the same for texts of a session that may replicate, which are commands or SQL and never both.
pub fn fuzz_replication(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (catalog, facts) = (catalog(), facts());
    let mapped = map_replication(text, "wh", &catalog, &facts, &NothingPrepared);
    assert_eq!(mapped, map_replication(text, "wh", &catalog, &facts, &NothingPrepared));
    let sql = map(text, "wh", &catalog, &facts, &NothingPrepared);
    assert!(sql.is_err() || mapped == sql);
}

/// For fuzzing: of two texts (split by a NUL) with the same key, what the first asks the second asks too.
pub fn fuzz_key(bytes: &[u8]) {
    let Some((one, other)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('\0')) else { return };
    let (Some(key), Some(same)) = (safe_key(one), safe_key(other)) else { return };
    if key != same {
        return;
    }
    let (catalog, facts) = (catalog(), facts());
    let judged = |text: &str| map(text, "wh", &catalog, &facts, &NothingPrepared);
    if let Ok(known) = judged(one)
        && known.literals_do_not_matter
    {
        assert_eq!(judged(other).map(|now| now.statements), Ok(known.statements));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_run() {
        fuzz(b"SELECT a FROM t; DROP TABLE t");
        fuzz(b"\xff");
        fuzz_replication(b"TABLE t");
        fuzz_replication(b"START_REPLICATION SLOT s LOGICAL 0/0 (publication_names 'p')");
        fuzz_key(b"TABLE t\0TABLE t");
    }
}
