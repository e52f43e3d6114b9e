//! Roles, and who may use which schema.

use std::sync::Arc;

use ahash::AHashMap;

use super::build::in_order;
use super::rows::CatalogRows;
use super::{Role, Usage};

/// `pg_database_owner`, whose one implicit member is the owner of the database.
///
/// # Source
/// PostgreSQL `pg_authid.dat`, `roles_is_member_of` in `acl.c`.
const DATABASE_OWNER: u32 = 6171;

/// All roles by name, with those whose privileges they have without SET ROLE.
pub(super) fn roles(rows: &CatalogRows, database_owner: u32) -> AHashMap<Arc<str>, Role> {
    let inherits: AHashMap<u32, bool> = rows.roles.iter().map(|role| (role.oid, role.inherits)).collect();
    let mut of: AHashMap<u32, Vec<u32>> = AHashMap::new();
    for (member, role, inherited) in &rows.memberships {
        if inherited.unwrap_or_else(|| inherits.get(member).copied().unwrap_or(true)) {
            of.entry(*member).or_default().push(*role);
        }
    }
    of.entry(database_owner).or_default().push(DATABASE_OWNER);
    let closure = |oid: u32| {
        let mut all = in_order(oid, |role| of.get(&role).cloned().unwrap_or_default());
        all.insert(0, oid);
        all
    };
    let roles = rows.roles.iter().map(|role| {
        let meaning = Role { oid: role.oid, superuser: role.superuser, privileges_of: closure(role.oid) };
        (Arc::clone(&role.name), meaning)
    });
    roles.collect()
}

/// Who may use each schema, by its oid.
///
/// Owners can take their own privilege away, so they count by the list like everybody, except that a schema without a list has the default one:
/// all for the owner.
pub(super) fn usage(rows: &CatalogRows) -> AHashMap<u32, Usage> {
    let mut granted: AHashMap<u32, Vec<u32>> = AHashMap::new();
    for (schema, grantee) in &rows.usage {
        granted.entry(*schema).or_default().push(*grantee);
    }
    let usage = rows.schemas.iter().map(|schema| {
        let usage = match granted.remove(&schema.oid) {
            Some(grantees) if grantees.contains(&0) => Usage::Everyone,
            Some(grantees) => Usage::Only(grantees),
            None if schema.default_usage => Usage::Only(vec![schema.owner]),
            None => Usage::Only(Vec::new()),
        };
        (schema.oid, usage)
    });
    usage.collect()
}
