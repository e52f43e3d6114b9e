//! One thing asked: an action on a resource, with what is known about it.

use std::borrow::Cow;
use std::fmt;

use super::Context;

/// The name of an action as the policies write it: `s3:GetObject`, `http:GET`, `tcp:Connect`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Action(Cow<'static, str>);

impl Action {
    /// An action whose name is known when the program is built.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// `http:METHOD`. Which methods exist is the schema's business: an action that it does not name is refused.
    #[must_use]
    pub fn http(method: &str) -> Self {
        match method {
            "GET" => Self::named("http:GET"),
            "HEAD" => Self::named("http:HEAD"),
            "POST" => Self::named("http:POST"),
            "PUT" => Self::named("http:PUT"),
            "PATCH" => Self::named("http:PATCH"),
            "DELETE" => Self::named("http:DELETE"),
            "OPTIONS" => Self::named("http:OPTIONS"),
            other => Self(Cow::Owned(format!("http:{other}"))),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The groups of actions: each action is in exactly one, so that a rule can be written once for S3, SQL and HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Reads the content of something.
    Read,
    /// Creates or changes content.
    Write,
    /// Removes content.
    Delete,
    /// Names what is there, without its content.
    List,
    /// Changes who may do what, or how the store behaves.
    Admin,
    /// Opens a channel.
    Connect,
}

impl Group {
    /// The group's name as the policies write it: `Action::"read"`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Admin => "admin",
            Self::Connect => "connect",
        }
    }
}

/// The entity types a resource can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A listener, by its name.
    Endpoint,
    /// A path of an HTTP service.
    HttpPath,
    /// An S3 bucket.
    Bucket,
    /// A folder of keys in a bucket.
    Prefix,
    /// One key in a bucket.
    Object,
    /// A SQL database.
    Database,
    /// A schema of a database.
    Schema,
    /// A table, view, sequence or whatever else can be read or written like one.
    Table,
    /// A function or procedure.
    Function,
}

impl ResourceKind {
    /// Every kind, in the order of the schema.
    pub const ALL: [Self; 9] = [
        Self::Endpoint,
        Self::HttpPath,
        Self::Bucket,
        Self::Prefix,
        Self::Object,
        Self::Database,
        Self::Schema,
        Self::Table,
        Self::Function,
    ];

    /// The Cedar entity type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "Endpoint",
            Self::HttpPath => "HttpPath",
            Self::Bucket => "Bucket",
            Self::Prefix => "Prefix",
            Self::Object => "Object",
            Self::Database => "Database",
            Self::Schema => "Schema",
            Self::Table => "Table",
            Self::Function => "Function",
        }
    }
}

/// What an operation is about: a qualified id and its ancestors, nearest first.
///
/// Every ancestor's id is a prefix of the id itself (`lake/raw/ingest/a` is below `Prefix lake/raw/ingest`, below
/// `Bucket lake/raw`, below `Endpoint lake`), so they are kept as lengths and cost no copies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    kind: ResourceKind,
    id: Box<str>,
    ancestors: Vec<(ResourceKind, usize)>,
    /// Ancestors whose ids are no prefixes of this one: the tables that a partition is part of.
    wholes: Vec<Self>,
}

impl Resource {
    /// The listener itself.
    #[must_use]
    pub fn endpoint(endpoint: &str) -> Self {
        Self { kind: ResourceKind::Endpoint, id: endpoint.into(), ancestors: Vec::new(), wholes: Vec::new() }
    }

    /// A path of an HTTP service. `path` is in its judged form and begins with `/`.
    ///
    /// Each segment is an ancestor. A trailing slash is a resource of its own: `/x/` is below `/x`, and `/` below the endpoint.
    #[must_use]
    pub fn http_path(endpoint: &str, path: &str) -> Self {
        let id = format!("{endpoint}{path}");
        let below = endpoint.len() + 1;
        let mut ancestors: Vec<_> = id
            .bytes()
            .enumerate()
            .skip(below)
            .filter(|(_, byte)| *byte == b'/')
            .map(|(at, _)| (ResourceKind::HttpPath, at))
            .collect();
        ancestors.reverse();
        ancestors.push((ResourceKind::Endpoint, endpoint.len()));
        Self { kind: ResourceKind::HttpPath, id: id.into(), ancestors, wholes: Vec::new() }
    }

    /// A bucket: `endpoint/bucket`.
    #[must_use]
    pub fn bucket(endpoint: &str, bucket: &str) -> Self {
        Self {
            kind: ResourceKind::Bucket,
            id: format!("{endpoint}/{bucket}").into(),
            ancestors: vec![(ResourceKind::Endpoint, endpoint.len())],
            wholes: Vec::new(),
        }
    }

    /// A folder of keys: `endpoint/bucket/ingest/2026`, without the trailing slash.
    #[must_use]
    pub fn prefix(endpoint: &str, bucket: &str, prefix: &str) -> Self {
        Self::below_bucket(ResourceKind::Prefix, endpoint, bucket, prefix)
    }

    /// One key. The key's own slashes make its prefixes; a key that ends with a slash (`ingest/`) is an object below `Prefix ingest`.
    #[must_use]
    pub fn object(endpoint: &str, bucket: &str, key: &str) -> Self {
        Self::below_bucket(ResourceKind::Object, endpoint, bucket, key)
    }

    fn below_bucket(kind: ResourceKind, endpoint: &str, bucket: &str, rest: &str) -> Self {
        let id = format!("{endpoint}/{bucket}/{rest}");
        let bucket_end = endpoint.len() + 1 + bucket.len();
        let mut ancestors: Vec<_> = id
            .bytes()
            .enumerate()
            .skip(bucket_end + 1)
            .filter(|(_, byte)| *byte == b'/')
            .map(|(at, _)| (ResourceKind::Prefix, at))
            .collect();
        ancestors.reverse();
        ancestors.push((ResourceKind::Bucket, bucket_end));
        ancestors.push((ResourceKind::Endpoint, endpoint.len()));
        Self { kind, id: id.into(), ancestors, wholes: Vec::new() }
    }

    /// A database: `warehouse/analytics`. The names of this and the next ones are as SQL knows them, unquoted.
    #[must_use]
    pub fn database(endpoint: &str, database: &str) -> Self {
        Self::sql(ResourceKind::Database, endpoint, &[database])
    }

    /// A schema of a database: `warehouse/analytics.sales`.
    #[must_use]
    pub fn schema(endpoint: &str, database: &str, schema: &str) -> Self {
        Self::sql(ResourceKind::Schema, endpoint, &[database, schema])
    }

    /// A table: `warehouse/analytics.sales.orders`.
    #[must_use]
    pub fn table(endpoint: &str, database: &str, schema: &str, table: &str) -> Self {
        Self::sql(ResourceKind::Table, endpoint, &[database, schema, table])
    }

    /// A function: `warehouse/analytics.sales.close_month`. All functions of one name are one resource.
    #[must_use]
    pub fn function(endpoint: &str, database: &str, schema: &str, function: &str) -> Self {
        Self::sql(ResourceKind::Function, endpoint, &[database, schema, function])
    }

    /// The same table as a partition of `wholes`, the nearest first: they become its ancestors, with their schemas.
    #[must_use]
    pub fn partition_of(mut self, wholes: impl IntoIterator<Item = Self>) -> Self {
        self.wholes.extend(wholes);
        self
    }

    fn sql(kind: ResourceKind, endpoint: &str, names: &[&str]) -> Self {
        let mut id = format!("{endpoint}/");
        let mut ends = Vec::with_capacity(names.len());
        for (position, name) in names.iter().enumerate() {
            if position > 0 {
                id.push('.');
            }
            push_sql_name(&mut id, name);
            ends.push(id.len());
        }
        let kinds = [ResourceKind::Database, ResourceKind::Schema];
        let mut ancestors: Vec<_> = kinds.into_iter().zip(ends).take(names.len() - 1).collect();
        ancestors.reverse();
        ancestors.push((ResourceKind::Endpoint, endpoint.len()));
        Self { kind, id: id.into(), ancestors, wholes: Vec::new() }
    }

    /// The entity type.
    #[must_use]
    pub const fn kind(&self) -> ResourceKind {
        self.kind
    }

    /// The qualified id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The ids of the tables that it is a partition of, the nearest first.
    pub fn wholes(&self) -> impl Iterator<Item = &str> {
        self.wholes.iter().map(|whole| &*whole.id)
    }

    /// All ancestors, nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = (ResourceKind, &str)> {
        let wholes = self.wholes.iter().map(|whole| (ResourceKind::Table, &*whole.id));
        let own = self.above_by_id().take_while(|(kind, _)| *kind == ResourceKind::Schema);
        let above = self.above_by_id().skip_while(|(kind, _)| *kind == ResourceKind::Schema);
        wholes.chain(own).chain(self.schemas_of_wholes()).chain(above)
    }

    /// A whole may be in another schema: each of them once. What is above that is above the partition anyway.
    fn schemas_of_wholes(&self) -> impl Iterator<Item = (ResourceKind, &str)> {
        let own = self.schema_by_id();
        self.wholes.iter().enumerate().filter_map(move |(n, whole)| {
            let found = whole.schema_by_id().filter(|found| Some(*found) != own)?;
            let known = self.wholes.iter().take(n).any(|before| before.schema_by_id() == Some(found));
            (!known).then_some(found)
        })
    }

    fn schema_by_id(&self) -> Option<(ResourceKind, &str)> {
        self.above_by_id().find(|(kind, _)| *kind == ResourceKind::Schema)
    }

    /// What the id itself says that it is in, nearest first.
    fn above_by_id(&self) -> impl Iterator<Item = (ResourceKind, &str)> {
        self.ancestors.iter().map(|(kind, end)| {
            // Every end lies just before an ASCII `/` or `.`, or at the end of the endpoint: always a character boundary.
            (*kind, self.id.get(..*end).unwrap_or_default())
        })
    }
}

/// Appends a name as ids write it: what SQL would have to quote is in double quotes, so that `a.b` and `"a.b"` differ.
///
/// # Source
/// PostgreSQL, 4.1.1: an identifier that needs no quotes begins with a lower-case letter or `_` and goes on with these, digits and
/// `$`. Key words are not told apart here: `Table::"wh/db.public.user"` is what people write.
pub fn push_sql_name(id: &mut String, name: &str) {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let is_plain = name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || byte.is_ascii_digit() || byte == b'$');
    if is_plain {
        id.push_str(name);
    } else {
        id.push('"');
        id.push_str(&name.replace('"', "\"\""));
        id.push('"');
    }
}

/// As Cedar writes an entity: `Bucket::"lake/raw"`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}\"", self.kind.as_str(), self.id.escape_debug())
    }
}

/// One thing asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// What is to be done.
    pub action: Action,
    /// To what.
    pub resource: Resource,
    /// What is known about it beyond the facts that all operations of a request share.
    pub context: Context,
}

/// Everything one request asks: never empty, permitted only as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Operations {
    first: Operation,
    rest: Vec<Operation>,
}

impl Operations {
    /// A request that asks one thing.
    #[must_use]
    pub const fn one(operation: Operation) -> Self {
        Self { first: operation, rest: Vec::new() }
    }

    /// All of `operations`, or `None` if there are none.
    #[must_use]
    pub fn all(operations: Vec<Operation>) -> Option<Self> {
        let mut operations = operations.into_iter();
        let first = operations.next()?;
        Some(Self { first, rest: operations.collect() })
    }

    /// Adds one more thing that must be permitted.
    pub fn push(&mut self, operation: Operation) {
        self.rest.push(operation);
    }

    /// The first one: what the request is mainly about.
    #[must_use]
    pub const fn first(&self) -> &Operation {
        &self.first
    }

    /// How many there are: at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub const fn len(&self) -> usize {
        1 + self.rest.len()
    }

    /// All of them in the order asked.
    pub fn iter(&self) -> impl Iterator<Item = &Operation> + Clone {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ancestors(resource: &Resource) -> Vec<String> {
        resource.ancestors().map(|(kind, id)| format!("{}::\"{id}\"", kind.as_str())).collect()
    }

    #[test]
    fn each_segment_of_a_path_is_an_ancestor() {
        let path = Resource::http_path("api", "/orders/v1/list");
        assert_eq!(path.to_string(), "HttpPath::\"api/orders/v1/list\"");
        assert_eq!(ancestors(&path), ["HttpPath::\"api/orders/v1\"", "HttpPath::\"api/orders\"", "Endpoint::\"api\""]);
    }

    #[test]
    fn a_trailing_slash_is_a_resource_below_the_path_without_it() {
        assert_eq!(ancestors(&Resource::http_path("api", "/x/")), ["HttpPath::\"api/x\"", "Endpoint::\"api\""]);
        let root = Resource::http_path("api", "/");
        assert_eq!(root.id(), "api/");
        assert_eq!(ancestors(&root), ["Endpoint::\"api\""]);
    }

    #[test]
    fn a_partition_is_below_the_tables_that_it_is_a_part_of_and_their_schemas() {
        let table = |schema, name| Resource::table("wh", "db", schema, name);
        let partition = table("parts", "people_1").partition_of([table("hr", "people"), table("hr", "everybody")]);
        assert_eq!(
            ancestors(&partition),
            [
                "Table::\"wh/db.hr.people\"",
                "Table::\"wh/db.hr.everybody\"",
                "Schema::\"wh/db.parts\"",
                "Schema::\"wh/db.hr\"",
                "Database::\"wh/db\"",
                "Endpoint::\"wh\""
            ]
        );
    }

    #[test]
    fn an_object_is_below_its_prefixes_its_bucket_and_its_endpoint() {
        let object = Resource::object("lake", "raw", "ingest/2026/a.parquet");
        assert_eq!(
            ancestors(&object),
            [
                "Prefix::\"lake/raw/ingest/2026\"",
                "Prefix::\"lake/raw/ingest\"",
                "Bucket::\"lake/raw\"",
                "Endpoint::\"lake\""
            ]
        );
        assert_eq!(ancestors(&Resource::object("lake", "raw", "é/ü"))[0], "Prefix::\"lake/raw/é\"");
    }
}
