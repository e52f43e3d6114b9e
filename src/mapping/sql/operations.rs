//! The actions of SQL: which group each is in, and on what it can be asked.

use crate::mapping::{Group, ResourceKind};

/// One action as the schema declares it.
type Declared = (&'static str, Group, &'static [ResourceKind]);

/// On the database itself.
const DATABASE: &[ResourceKind] = &[ResourceKind::Database];
/// On something with rows.
const TABLE: &[ResourceKind] = &[ResourceKind::Table];
/// On whatever has an entity.
const OBJECT: &[ResourceKind] =
    &[ResourceKind::Database, ResourceKind::Schema, ResourceKind::Table, ResourceKind::Function];

/// All of them.
const ACTIONS: &[Declared] = &[
    ("sql:Connect", Group::Connect, DATABASE),
    ("sql:Introspect", Group::Connect, DATABASE),
    ("sql:Select", Group::Read, TABLE),
    ("sql:Insert", Group::Write, TABLE),
    ("sql:Update", Group::Write, TABLE),
    ("sql:Merge", Group::Write, TABLE),
    ("sql:Delete", Group::Delete, TABLE),
    ("sql:Truncate", Group::Delete, TABLE),
    ("sql:Drop", Group::Delete, OBJECT),
    ("sql:Lock", Group::Write, &[ResourceKind::Database, ResourceKind::Table]),
    ("sql:Execute", Group::Write, &[ResourceKind::Function]),
    ("sql:Listen", Group::Read, DATABASE),
    ("sql:Set", Group::Read, DATABASE),
    ("sql:Notify", Group::Write, DATABASE),
    ("sql:LargeObject", Group::Write, DATABASE),
    ("sql:SetRole", Group::Admin, DATABASE),
    ("sql:CopyFile", Group::Admin, DATABASE),
    ("sql:CopyProgram", Group::Admin, DATABASE),
    ("sql:ExecuteCode", Group::Admin, DATABASE),
    ("sql:Replicate", Group::Admin, DATABASE),
    ("sql:Create", Group::Admin, &[ResourceKind::Database, ResourceKind::Schema, ResourceKind::Table]),
    ("sql:Alter", Group::Admin, OBJECT),
    ("sql:Grant", Group::Admin, OBJECT),
    ("sql:Maintain", Group::Admin, &[ResourceKind::Database, ResourceKind::Schema, ResourceKind::Table]),
];

/// Every action that a SQL text or a PostgreSQL session can ask, with its group.
pub fn actions() -> impl Iterator<Item = (&'static str, Group)> {
    ACTIONS.iter().map(|(name, group, _)| (*name, *group))
}

/// What `action` can be asked on, in the order of [`ResourceKind::ALL`].
#[must_use]
pub fn resource_kinds(action: &str) -> &'static [ResourceKind] {
    ACTIONS.iter().find(|(name, ..)| *name == action).map_or(&[], |(_, _, kinds)| kinds)
}
