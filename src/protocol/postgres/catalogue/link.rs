//! The connection that the catalogue is read over.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{CatalogueError, values_of};
use crate::mapping::sql::catalog::{Catalog, CatalogRows, Query};
use crate::protocol::postgres::wire::{FrameReader, Side, error_fields};

/// A byte stream to the server.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A session of the proxy's own.
pub(super) struct Link {
    io: Box<dyn Io>,
    reader: FrameReader,
    /// Whether it has read before: then an equal snapshot means that nothing has changed.
    has_read: bool,
}

/// A catalogue, and what tells whether it is still that.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) catalog: Arc<Catalog>,
    /// Which transactions were visible: as long as it is the same, nothing has been committed.
    snapshot: Box<str>,
    /// How many rows by which transactions each table of the catalogue had.
    fingerprint: Box<str>,
}

/// Nothing of the role or database may change what the queries mean or cost more than they have to.
const SETTINGS: &str = "SET search_path = pg_catalog; SET jit = off; SET statement_timeout = '10s'; \
                        SET default_transaction_read_only = on";

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ";

const SNAPSHOT: &str = "pg_catalog.pg_current_snapshot()::pg_catalog.text";

/// The tables that the queries read whose rows carry the transaction that wrote them. `pg_roles` is a view.
const TABLES: [&str; 14] = [
    "pg_attrdef",
    "pg_attribute",
    "pg_auth_members",
    "pg_cast",
    "pg_class",
    "pg_constraint",
    "pg_database",
    "pg_depend",
    "pg_inherits",
    "pg_namespace",
    "pg_operator",
    "pg_proc",
    "pg_rewrite",
    "pg_type",
];

impl Link {
    /// A session that is ready for its first query.
    pub(super) fn new(io: Box<dyn Io>, buffered: BytesMut) -> Self {
        Self { io, reader: FrameReader::new(Side::Server, buffered), has_read: false }
    }

    /// Reads the catalogue, or finds that `before` still holds.
    ///
    /// # Errors
    /// The connection is not to be used again.
    pub(super) async fn read(&mut self, before: Option<&Arc<Seen>>) -> Result<Arc<Seen>, CatalogueError> {
        let same_session = std::mem::replace(&mut self.has_read, true);
        if !same_session {
            self.query(SETTINGS, |_, _| Ok(())).await?;
        }
        if let Some(before) = before
            && let Some(unchanged) = self.unchanged(before, same_session).await?
        {
            return Ok(unchanged);
        }
        let mut rows = CatalogRows::default();
        let mut seen = (Box::default(), Box::default());
        self.query(&everything(), |statement, values| {
            match statement.checked_sub(2) {
                // BEGIN is statement 0, the fingerprint 1.
                None => seen = (text(values, 0), text(values, 1)),
                Some(position) => {
                    if let Some((reading, _)) = Catalog::QUERIES.get(position) {
                        rows.push(*reading, values)?;
                    }
                }
            }
            Ok(())
        })
        .await?;
        let catalog = Arc::new(Catalog::build(rows)?);
        Ok(Arc::new(Seen { catalog, snapshot: seen.0, fingerprint: seen.1 }))
    }

    /// `before` with a newer snapshot, if the catalogue is still that.
    async fn unchanged(&mut self, before: &Arc<Seen>, same_session: bool) -> Result<Option<Arc<Seen>>, CatalogueError> {
        let mut seen: (Box<str>, Option<Box<str>>) = Default::default();
        let known = if same_session { &*before.snapshot } else { "" };
        self.query(&probe(known), |statement, values| {
            if statement == 1 {
                seen = (text(values, 0), values.get(1).copied().flatten().map(Box::from));
            }
            Ok(())
        })
        .await?;
        Ok(match seen {
            (_, None) => Some(Arc::clone(before)),
            (snapshot, Some(fingerprint)) if fingerprint == before.fingerprint => {
                Some(Arc::new(Seen { catalog: Arc::clone(&before.catalog), snapshot, fingerprint }))
            }
            _ => None,
        })
    }

    /// Runs statements in one round trip; `row` is given the position of the statement and the values of each row.
    pub(super) async fn query(
        &mut self,
        text: &str,
        mut row: impl FnMut(usize, &[Option<&str>]) -> Result<(), CatalogueError>,
    ) -> Result<(), CatalogueError> {
        self.io.write_all(&message(text)).await.map_err(broken)?;
        self.io.flush().await.map_err(broken)?;
        let (mut statement, mut refused) = (0, None);
        loop {
            let Some(frame) = self.reader.next().map_err(|error| off(error.to_string()))? else {
                match self.reader.fill(&mut self.io).await {
                    Ok(0) => return Err(refused.unwrap_or_else(|| off("the server closed it".into()))),
                    Ok(_) => continue,
                    Err(error) => return Err(broken(error)),
                }
            };
            match frame.tag() {
                b'D' => {
                    let values = values_of(frame.body()).ok_or_else(|| off("a row is malformed".into()))?;
                    row(statement, &values)?;
                }
                b'C' => statement += 1,
                b'E' => refused = Some(refusal(frame.body())),
                b'Z' => return refused.map_or(Ok(()), Err),
                // RowDescription, notices, parameters, notifications.
                _ => {}
            }
        }
    }
}

fn text(values: &[Option<&str>], column: usize) -> Box<str> {
    values.get(column).copied().flatten().unwrap_or_default().into()
}

/// A Query message.
fn message(text: &str) -> BytesMut {
    let length = u32::try_from(text.len() + 5).unwrap_or(u32::MAX);
    let mut message = BytesMut::with_capacity(text.len() + 6);
    message.put_u8(b'Q');
    message.put_u32(length);
    message.put_slice(text.as_bytes());
    message.put_u8(0);
    message
}

fn probe(known: &str) -> String {
    // A snapshot is digits, `:` and `,`.
    let known: String = known.chars().filter(|c| c.is_ascii_digit() || matches!(c, ':' | ',')).collect();
    let fingerprint = fingerprint();
    format!("{BEGIN}SELECT {SNAPSHOT}, CASE WHEN {SNAPSHOT} = '{known}' THEN NULL ELSE {fingerprint} END; COMMIT")
}

fn everything() -> String {
    let mut all = format!("{BEGIN}SELECT {SNAPSHOT}, {}; ", fingerprint());
    for (_, text) in &Catalog::QUERIES as &[Query] {
        all.push_str(text);
        all.push_str("; ");
    }
    all.push_str("COMMIT");
    all
}

/// How many rows each table has, and a sum over the transactions that wrote them: INSERT and UPDATE write a new one, DELETE takes one away.
/// What VACUUM and ANALYZE do in place leaves it as it is.
fn fingerprint() -> String {
    let mut all = String::from("pg_catalog.concat_ws('/'");
    for table in TABLES {
        // A String takes everything.
        let _ = write!(
            all,
            ", (SELECT pg_catalog.concat(pg_catalog.count(*), ':', \
             pg_catalog.sum(pg_catalog.hashint8extended(t.xmin::pg_catalog.text::pg_catalog.int8, 0))) \
             FROM pg_catalog.{table} t)"
        );
    }
    all.push_str(
        ", (SELECT pg_catalog.sum(pg_catalog.hashtextextended(\
         pg_catalog.concat_ws('/', r.oid, r.rolname, r.rolsuper, r.rolinherit), 0)) FROM pg_catalog.pg_roles r))",
    );
    all
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: io::Error) -> CatalogueError {
    off(error.to_string())
}

const fn off(cause: String) -> CatalogueError {
    CatalogueError::Broken { cause }
}

fn refusal(body: &[u8]) -> CatalogueError {
    let field = |wanted: u8| {
        let found = error_fields(body).find(|(code, _)| *code == wanted);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    // The server is ending: another connection may succeed.
    match field(b'C').as_str() {
        "57P01" | "57P02" | "57P03" => off(field(b'M')),
        sqlstate => CatalogueError::Refused { message: format!("{} ({sqlstate})", field(b'M')) },
    }
}
