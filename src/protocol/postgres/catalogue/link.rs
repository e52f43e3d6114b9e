//! The connection that the catalogue is read over.

use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{CatalogueError, values_of};
use crate::mapping::sql::catalog::{Asked, Catalog, CatalogRows, Fingerprint, Part, Snapshot};
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
}

/// Nothing of the role or database may change what the queries mean or cost more than they have to.
const SETTINGS: &str = "SET search_path = pg_catalog; SET jit = off; SET statement_timeout = '10s'; \
                        SET default_transaction_read_only = on";

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ";

const SNAPSHOT: &str = "pg_catalog.pg_current_snapshot()::pg_catalog.text";

/// What the server has said before it is asked for rows.
enum Known {
    /// The catalogue that is known still holds; this is the snapshot that says so.
    Still(Box<str>),
    /// It does not. The transaction is open: what is read now is of this snapshot.
    Changed(Box<str>, Fingerprint),
}

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
        if let Some(before) = before {
            match self.probe(before, same_session).await? {
                Known::Still(snapshot) => return Ok(Arc::new(Seen { catalog: Arc::clone(&before.catalog), snapshot })),
                Known::Changed(snapshot, fingerprint) => {
                    if let Some(catalog) = self.foreign(&before.catalog, fingerprint).await? {
                        return Ok(Arc::new(Seen { catalog: Arc::new(catalog), snapshot }));
                    }
                }
            }
        }
        self.whole().await
    }

    /// Asks whether the catalogue that is known still holds.
    async fn probe(&mut self, before: &Seen, same_session: bool) -> Result<Known, CatalogueError> {
        let mut seen: (Box<str>, Option<Fingerprint>) = Default::default();
        let known = if same_session { &*before.snapshot } else { "" };
        self.query(&probe(known), |statement, values| {
            if statement == 1 {
                let is_same = values.get(1).copied().flatten().is_none();
                seen = (text(values, 0), (!is_same).then(|| fingerprint(values)));
            }
            Ok(())
        })
        .await?;
        Ok(match seen {
            (snapshot, Some(fingerprint)) if !before.catalog.fingerprint.is_still(&fingerprint) => {
                Known::Changed(snapshot, fingerprint)
            }
            (snapshot, _) => {
                self.query("COMMIT", |_, _| Ok(())).await?;
                Known::Still(snapshot)
            }
        })
    }

    /// Reads what may have changed of what did not come with the server, in the transaction that is open. None if all has to be read.
    async fn foreign(&mut self, before: &Catalog, now: Fingerprint) -> Result<Option<Catalog>, CatalogueError> {
        let Some(queries) = before.changed(&now) else {
            self.query("COMMIT", |_, _| Ok(())).await?;
            return Ok(None);
        };
        let mut rows = CatalogRows::default();
        let all = format!("{}; COMMIT", joined(queries.iter().copied()));
        self.query(&all, |statement, values| match queries.get(statement) {
            Some((reading, _)) => Ok(rows.push(*reading, values)?),
            None => Ok(()),
        })
        .await?;
        Ok(before.built_over(rows, &queries, now)?)
    }

    /// Reads everything.
    async fn whole(&mut self) -> Result<Arc<Seen>, CatalogueError> {
        let (mut built_in, mut foreign) = (CatalogRows::default(), CatalogRows::default());
        let mut seen = (Box::default(), Fingerprint::default());
        let parts = [Part::BuiltIn.queries(), Part::Foreign.queries()];
        let probe = format!("{}, {}", Part::BuiltIn.fingerprint(), Part::Foreign.fingerprint());
        let all = format!("{BEGIN}SELECT {SNAPSHOT}, {probe}; {}; COMMIT", joined(parts.into_iter().flatten()));
        self.query(&all, |statement, values| {
            // BEGIN is statement 0, the fingerprint 1.
            let Some(position) = statement.checked_sub(2) else {
                seen = (text(values, 0), fingerprint(values));
                return Ok(());
            };
            let [first, second] = parts;
            if let Some((reading, _)) = first.get(position) {
                built_in.push(*reading, values)?;
            } else if let Some((reading, _)) = second.get(position - first.len()) {
                foreign.push(*reading, values)?;
            }
            Ok(())
        })
        .await?;
        let (snapshot, fingerprint) = seen;
        let catalog = Arc::new(Catalog::build_parts(built_in, foreign, fingerprint)?);
        Ok(Arc::new(Seen { catalog, snapshot }))
    }

    /// Reads everything, as it is.
    ///
    /// # Errors
    /// The connection is not to be used again.
    pub(super) async fn snapshot(&mut self) -> Result<Snapshot, CatalogueError> {
        self.query(SETTINGS, |_, _| Ok(())).await?;
        let mut snapshot = Snapshot::default();
        let texts: Vec<&str> = Catalog::QUERIES.iter().map(|(_, text)| *text).collect();
        self.query(&format!("{BEGIN}{}; COMMIT", texts.join("; ")), |statement, values| {
            // BEGIN is statement 0.
            if let Some((reading, _)) = statement.checked_sub(1).and_then(|at| Catalog::QUERIES.get(at)) {
                snapshot.push(*reading, values);
            }
            Ok(())
        })
        .await?;
        Ok(snapshot)
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

/// The two values after the snapshot.
fn fingerprint(values: &[Option<&str>]) -> Fingerprint {
    Fingerprint { built_in: text(values, 1), foreign: text(values, 2) }
}

/// Leaves the transaction open.
fn probe(known: &str) -> String {
    // A snapshot is digits, `:` and `,`.
    let known: String = known.chars().filter(|c| c.is_ascii_digit() || matches!(c, ':' | ',')).collect();
    let unless_known = |part: Part| {
        format!("CASE WHEN {SNAPSHOT} OPERATOR(pg_catalog.=) '{known}' THEN NULL ELSE {} END", part.fingerprint())
    };
    let (built_in, foreign) = (unless_known(Part::BuiltIn), unless_known(Part::Foreign));
    format!("{BEGIN}SELECT {SNAPSHOT}, {built_in}, {foreign}")
}

fn joined(queries: impl Iterator<Item = &'static Asked>) -> String {
    let texts: Vec<&str> = queries.map(|(_, text)| &**text).collect();
    texts.join("; ")
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
