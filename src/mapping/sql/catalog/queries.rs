//! What the server is asked.
//!
//! Tables of `pg_catalog` only, and no function that takes a lock on what it is asked about (`pg_get_viewdef`, `…::regclass` do). Every name and
//! operator is qualified: the same texts run in sessions whose search path is not ours.

use super::Catalog;

/// One reading: what it is about, and its text.
pub type Query = (Reading, &'static str);

/// What a query is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// The database itself.
    Database,
    /// Roles.
    Roles,
    /// Who is a member of which role.
    Memberships,
    /// Schemas.
    Schemas,
    /// Who may use them.
    Usage,
    /// Relations.
    Relations,
    /// Their columns.
    Columns,
    /// What generated columns read.
    Generated,
    /// Partitions and inheritance.
    Inheritance,
    /// What views read.
    Views,
    /// Options of views.
    ViewOptions,
    /// Foreign keys.
    ForeignKeys,
    /// Functions.
    Functions,
    /// Operators.
    Operators,
    /// Types.
    Types,
    /// Casts.
    Casts,
}

impl Catalog {
    /// Everything that has to be read for a [`Catalog`], valid on PostgreSQL 14 to 18. The order does not matter; all of it has to be read
    /// in one snapshot.
    pub const QUERIES: [Query; 16] = [
        (
            Reading::Database,
            "SELECT d.datname, d.datdba, pg_catalog.current_setting('server_version_num') \
             FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()",
        ),
        (Reading::Roles, "SELECT r.oid, r.rolname, r.rolsuper, r.rolinherit FROM pg_catalog.pg_roles r"),
        // From PostgreSQL 16 on each membership says whether it is inherited, before the role does.
        (
            Reading::Memberships,
            "SELECT m.member, m.roleid, pg_catalog.to_jsonb(m) OPERATOR(pg_catalog.->>) 'inherit_option' \
             FROM pg_catalog.pg_auth_members m",
        ),
        (Reading::Schemas, "SELECT n.oid, n.nspname, n.nspowner, n.nspacl IS NULL FROM pg_catalog.pg_namespace n"),
        (
            Reading::Usage,
            "SELECT n.oid, a.grantee FROM pg_catalog.pg_namespace n \
             CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a \
             WHERE a.privilege_type OPERATOR(pg_catalog.=) 'USAGE'",
        ),
        (
            Reading::Relations,
            "SELECT c.oid, c.relnamespace, c.relname, c.relkind, c.reltype, c.relispartition FROM pg_catalog.pg_class c",
        ),
        (
            Reading::Columns,
            "SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.attgenerated FROM pg_catalog.pg_attribute a \
             WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped",
        ),
        // Up to PostgreSQL 14 it is the column that depends on others, from 15 on its expression. 1259 is pg_class, 2604 pg_attrdef.
        (
            Reading::Generated,
            "SELECT d.objid, d.objsubid, d.refobjsubid FROM pg_catalog.pg_depend d \
             WHERE d.classid OPERATOR(pg_catalog.=) 1259 AND d.refclassid OPERATOR(pg_catalog.=) 1259 \
             AND d.objid OPERATOR(pg_catalog.=) d.refobjid \
             AND d.objsubid OPERATOR(pg_catalog.>) 0 AND d.refobjsubid OPERATOR(pg_catalog.>) 0 \
             UNION ALL SELECT e.adrelid, e.adnum, d.refobjsubid FROM pg_catalog.pg_attrdef e \
             JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) e.oid \
             WHERE d.classid OPERATOR(pg_catalog.=) 2604 AND d.refclassid OPERATOR(pg_catalog.=) 1259 \
             AND d.refobjid OPERATOR(pg_catalog.=) e.adrelid AND d.refobjsubid OPERATOR(pg_catalog.>) 0 \
             AND d.refobjsubid OPERATOR(pg_catalog.<>) e.adnum",
        ),
        (Reading::Inheritance, "SELECT i.inhrelid, i.inhparent, i.inhseqno FROM pg_catalog.pg_inherits i"),
        // 2618 is pg_rewrite. Whole rows leave no dependency on columns; in the rule's tree they are Vars with attribute number 0.
        (
            Reading::Views,
            "SELECT r.ev_class, d.refobjid, d.refobjsubid, \
             pg_catalog.strpos(r.ev_action::pg_catalog.text, ':varattno 0 ') OPERATOR(pg_catalog.>) 0 \
             FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) r.oid \
             WHERE r.ev_type OPERATOR(pg_catalog.=) '1' AND d.classid OPERATOR(pg_catalog.=) 2618 \
             AND d.refclassid OPERATOR(pg_catalog.=) 1259 AND d.refobjid OPERATOR(pg_catalog.<>) r.ev_class",
        ),
        (
            Reading::ViewOptions,
            "SELECT c.oid, c.reloptions::pg_catalog.text FROM pg_catalog.pg_class c \
             WHERE c.relkind OPERATOR(pg_catalog.=) 'v' AND c.reloptions IS NOT NULL",
        ),
        (
            Reading::ForeignKeys,
            "SELECT c.conrelid, c.confrelid FROM pg_catalog.pg_constraint c WHERE c.contype OPERATOR(pg_catalog.=) 'f'",
        ),
        (
            Reading::Functions,
            "SELECT p.oid, p.pronamespace, p.proname, p.prokind, p.provolatile, p.pronargs, p.pronargdefaults, \
             p.provariadic, p.proargtypes, p.prorettype, p.proargmodes, \
             CASE WHEN p.proargmodes IS NOT NULL THEN p.proargnames END FROM pg_catalog.pg_proc p",
        ),
        (
            Reading::Operators,
            "SELECT o.oprnamespace, o.oprname, o.oprleft, o.oprright, o.oprcode::pg_catalog.oid, o.oid \
             FROM pg_catalog.pg_operator o",
        ),
        (
            Reading::Types,
            "SELECT t.oid, t.typnamespace, t.typname, t.typtype, t.typrelid, t.typcategory, t.typelem, t.typbasetype \
             FROM pg_catalog.pg_type t",
        ),
        (
            Reading::Casts,
            "SELECT c.oid, c.castsource, c.casttarget, c.castfunc, c.castcontext FROM pg_catalog.pg_cast c",
        ),
    ];
}
