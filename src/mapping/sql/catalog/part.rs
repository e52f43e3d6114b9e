//! What came with the server and what somebody made, asked apart: the one is much and hardly ever changes.

use std::sync::LazyLock;

use super::{Catalog, Reading};

/// A query about one part.
pub type Asked = (Reading, String);

/// A part of a catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Objects that came with the server.
    BuiltIn,
    /// All others; and the database, roles and schemas, of which there are few.
    Foreign,
}

/// Whether a catalogue is still what it was: equal ones were taken of equal rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of what came with the server.
    pub built_in: Box<str>,
    /// Of the rest. Empty if it is not known.
    pub foreign: Box<str>,
}

/// The tables of both parts, the column that tells which, and what is left out of them: rows that are read by none of the queries.
///
/// 1259 is `pg_class`, 2604 `pg_attrdef`, 2618 `pg_rewrite`.
const TABLES: [(&str, &str, &str); 11] = [
    ("pg_attrdef", "adrelid", ""),
    ("pg_attribute", "attrelid", " AND t.attnum OPERATOR(pg_catalog.>) 0"),
    ("pg_cast", "oid", ""),
    ("pg_class", "oid", ""),
    ("pg_constraint", "conrelid", " AND t.contype OPERATOR(pg_catalog.=) 'f'"),
    (
        "pg_depend",
        "objid",
        " AND t.refclassid OPERATOR(pg_catalog.=) 1259 AND (t.classid OPERATOR(pg_catalog.=) 1259 \
         OR t.classid OPERATOR(pg_catalog.=) 2604 OR t.classid OPERATOR(pg_catalog.=) 2618)",
    ),
    ("pg_inherits", "inhrelid", ""),
    ("pg_operator", "oid", ""),
    ("pg_proc", "oid", ""),
    ("pg_rewrite", "ev_class", ""),
    ("pg_type", "oid", ""),
];

/// Those that are read as a whole. `pg_roles` is a view, whose rows do not tell who wrote them.
const SMALL: [&str; 2] = ["pg_auth_members", "pg_namespace"];

impl Part {
    /// The queries about this part: both together answer all of [`Catalog::QUERIES`].
    #[must_use]
    pub fn queries(self) -> &'static [Asked] {
        static BUILT_IN: LazyLock<Vec<Asked>> = LazyLock::new(|| split(Part::BuiltIn));
        static FOREIGN: LazyLock<Vec<Asked>> = LazyLock::new(|| split(Part::Foreign));
        match self {
            Self::BuiltIn => &BUILT_IN,
            Self::Foreign => &FOREIGN,
        }
    }

    /// An expression for its fingerprint, of type text.
    ///
    /// For each table how many rows there are, and a sum over which version of which row they are: a row that is written has another place or
    /// is of another transaction, also within one transaction. What VACUUM and ANALYZE do in place leaves it as it is.
    #[must_use]
    pub fn fingerprint(self) -> &'static str {
        static BUILT_IN: LazyLock<String> = LazyLock::new(|| fingerprint(Part::BuiltIn));
        static FOREIGN: LazyLock<String> = LazyLock::new(|| fingerprint(Part::Foreign));
        match self {
            Self::BuiltIn => &BUILT_IN,
            Self::Foreign => &FOREIGN,
        }
    }

    /// [`super::is_built_in`], or not.
    const fn compared(self) -> &'static str {
        match self {
            Self::BuiltIn => "OPERATOR(pg_catalog.<) 16384",
            Self::Foreign => "OPERATOR(pg_catalog.>=) 16384",
        }
    }
}

impl Fingerprint {
    /// Asks for it: two values.
    #[must_use]
    pub fn query() -> &'static str {
        static QUERY: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {}, {}", Part::BuiltIn.fingerprint(), Part::Foreign.fingerprint()));
        &QUERY
    }

    /// Asks for that of the foreign part alone.
    #[must_use]
    pub fn foreign_query() -> &'static str {
        static QUERY: LazyLock<String> = LazyLock::new(|| format!("SELECT {}", Part::Foreign.fingerprint()));
        &QUERY
    }

    /// The queries about the foreign part whose answers may be others now.
    pub(super) fn changed(&self, now: &Self) -> Vec<&'static Asked> {
        let tables = || TABLES.iter().map(|(table, _, _)| *table).chain(SMALL).chain(["pg_database", "pg_roles"]);
        let (before, after): (Vec<_>, Vec<_>) = (self.foreign.split('/').collect(), now.foreign.split('/').collect());
        let known = before.len() == tables().count() && after.len() == before.len();
        let changed: Vec<_> = tables()
            .zip(before.iter().zip(&after))
            .filter(|(_, (before, after))| before != after)
            .map(|(table, _)| table)
            .collect();
        let is_changed =
            |(reading, _): &&Asked| !known || read_by(*reading).iter().any(|table| changed.contains(table));
        Part::Foreign.queries().iter().filter(is_changed).collect()
    }

    /// Whether both are known, and the same.
    #[must_use]
    pub fn is_still(&self, now: &Self) -> bool {
        !self.foreign.is_empty() && self == now
    }
}

/// The tables that a query reads.
const fn read_by(reading: Reading) -> &'static [&'static str] {
    match reading {
        Reading::Database => &["pg_database"],
        Reading::Roles => &["pg_roles"],
        Reading::Memberships => &["pg_auth_members"],
        Reading::Schemas | Reading::Usage => &["pg_namespace"],
        Reading::Relations | Reading::ViewOptions => &["pg_class"],
        Reading::Columns => &["pg_attribute"],
        Reading::Generated => &["pg_attrdef", "pg_depend"],
        Reading::Inheritance => &["pg_inherits"],
        Reading::Views => &["pg_rewrite", "pg_depend"],
        Reading::ForeignKeys => &["pg_constraint"],
        Reading::Functions => &["pg_proc"],
        Reading::Operators => &["pg_operator"],
        Reading::Types => &["pg_type"],
        Reading::Casts => &["pg_cast"],
    }
}

fn split(part: Part) -> Vec<Asked> {
    let queries = Catalog::QUERIES.iter().filter_map(|(reading, text)| {
        // The name of the column that tells the part: the first, of operators the last.
        let columns = match reading {
            Reading::Database | Reading::Roles | Reading::Memberships | Reading::Schemas | Reading::Usage => {
                return (part == Part::Foreign).then(|| (*reading, (*text).to_owned()));
            }
            Reading::Operators => "c1, c2, c3, c4, c5, part",
            _ => "part",
        };
        Some((*reading, format!("SELECT q.* FROM ({text}) q({columns}) WHERE q.part {}", part.compared())))
    });
    queries.collect()
}

fn fingerprint(part: Part) -> String {
    let of = |table: &str, filter: &str| {
        format!(
            ", (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(\
             pg_catalog.hashtidextended(t.ctid, t.xmin::pg_catalog.text::pg_catalog.int8))) FROM pg_catalog.{table} t {filter})"
        )
    };
    let mut all = String::from("pg_catalog.concat_ws('/'");
    for (table, key, also) in TABLES {
        all.push_str(&of(table, &format!("WHERE t.{key} {}{also}", part.compared())));
    }
    if part == Part::Foreign {
        for table in SMALL {
            all.push_str(&of(table, ""));
        }
        let own = "WHERE t.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";
        all.push_str(&of("pg_database", own));
        all.push_str(
            ", (SELECT pg_catalog.sum(pg_catalog.hashtextextended(\
             pg_catalog.concat_ws('/', r.oid, r.rolname, r.rolsuper, r.rolinherit), 0)) FROM pg_catalog.pg_roles r)",
        );
    }
    all.push(')');
    all
}
