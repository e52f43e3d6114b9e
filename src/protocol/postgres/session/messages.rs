//! Bodies of the messages that a session looks into, and the messages that it writes itself.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::protocol::postgres::wire::frame;

/// `NAMEDATALEN` less its NUL: the server's tables of statements and portals compare no more of a name (`hash_create` with
/// `HASH_STRINGS` and a key of NAMEDATALEN bytes in prepare.c and portalmem.c).
const NAME_BYTES: usize = 63;

/// A message's body is not what its type says: the stream can no longer be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The name of a prepared statement or portal as the server tells them apart.
pub(super) type Name = Box<[u8]>;

/// The part of a name that counts.
pub(super) fn name(bytes: &[u8]) -> Name {
    name_part(bytes).into()
}

/// The same, to be looked for.
pub(super) fn name_part(bytes: &[u8]) -> &[u8] {
    bytes.get(..NAME_BYTES).unwrap_or(bytes)
}

/// The text up to the next NUL, and what follows it.
pub(super) fn text(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = memchr::memchr(0, body).ok_or(Malformed("a text has no end"))?;
    Ok((body.get(..end).unwrap_or_default(), body.get(end + 1..).unwrap_or_default()))
}

/// Query: the text, which ends with the message.
pub(super) fn query(body: &[u8]) -> Result<&[u8], Malformed> {
    match text(body)? {
        (text, []) => Ok(text),
        _ => Err(Malformed("there are bytes after the text")),
    }
}

/// Parse: name, text.
pub(super) fn parse(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (name, rest) = text(body)?;
    let (query, rest) = text(rest)?;
    let (count, types) = rest.split_first_chunk::<2>().ok_or(Malformed("the parameter types are missing"))?;
    match types.len() == usize::from(u16::from_be_bytes(*count)) * 4 {
        true => Ok((name, query)),
        false => Err(Malformed("there are more or fewer parameter types than the message says")),
    }
}

/// Bind: portal, statement.
pub(super) fn bind(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (portal, rest) = text(body)?;
    let (statement, rest) = text(rest)?;
    let rest = formats(rest)?;
    let (count, mut rest) = number(rest)?;
    for _ in 0..count {
        let (length, values) = rest.split_first_chunk::<4>().ok_or(Malformed("a parameter is missing"))?;
        // -1 is NULL.
        let length = match i32::from_be_bytes(*length) {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| Malformed("a parameter has a negative length"))?,
        };
        rest = values.get(length..).ok_or(Malformed("a parameter is longer than the message"))?;
    }
    match formats(rest)? {
        [] => Ok((portal, statement)),
        _ => Err(Malformed("there are bytes after the result formats")),
    }
}

/// A count, and what follows it.
fn number(body: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let (count, rest) = body.split_first_chunk::<2>().ok_or(Malformed("a count is missing"))?;
    Ok((usize::from(u16::from_be_bytes(*count)), rest))
}

/// What follows a list of format codes.
fn formats(body: &[u8]) -> Result<&[u8], Malformed> {
    let (count, rest) = number(body)?;
    rest.get(count * 2..).ok_or(Malformed("a format code is missing"))
}

/// Execute: portal, most rows.
pub(super) fn execute(body: &[u8]) -> Result<(&[u8], u32), Malformed> {
    let (portal, rest) = text(body)?;
    let rows: [u8; 4] = rest.try_into().map_err(|_| Malformed("the number of rows is missing"))?;
    Ok((portal, u32::from_be_bytes(rows)))
}

/// Describe and Close: `S` or `P`, name.
pub(super) fn target(body: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    let (kind, rest) = body.split_first().ok_or(Malformed("the kind is missing"))?;
    match (kind, text(rest)?) {
        (b'S' | b'P', (name, [])) => Ok((*kind, name)),
        _ => Err(Malformed("the kind is neither statement nor portal")),
    }
}

/// FunctionCall: the function's oid.
pub(super) fn function(body: &[u8]) -> Result<u32, Malformed> {
    let (oid, _arguments) = body.split_first_chunk::<4>().ok_or(Malformed("the function is missing"))?;
    Ok(u32::from_be_bytes(*oid))
}

/// ParameterStatus: name, value.
pub(super) fn parameter(body: &[u8]) -> Option<(&str, &str)> {
    let (name, rest) = text(body).ok()?;
    let (value, _) = text(rest).ok()?;
    Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?))
}

/// CommandComplete: the tag.
pub(super) fn tag(body: &[u8]) -> &str {
    text(body).ok().and_then(|(tag, _)| str::from_utf8(tag).ok()).unwrap_or_default()
}

/// DataRow: the columns.
pub(super) fn row(body: &[u8]) -> Option<Vec<Option<Bytes>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::with_capacity(usize::from(u16::from_be_bytes(*count)));
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, values) = rest.split_first_chunk::<4>()?;
        match u32::from_be_bytes(*length) {
            u32::MAX => (columns.push(None), rest = values).1,
            length => {
                let (value, after) = values.split_at_checked(usize::try_from(length).ok()?)?;
                columns.push(Some(Bytes::copy_from_slice(value)));
                rest = after;
            }
        }
    }
    Some(columns)
}

/// Writes Query.
pub(super) fn put_query(out: &mut BytesMut, text: &str) {
    frame(out, b'Q', |out| put_text(out, text.as_bytes()));
}

/// Writes a Parse again, with another text.
pub(super) fn put_parse_again(out: &mut BytesMut, body: &[u8], query: &str) {
    let Ok((name, rest)) = text(body) else { return };
    let Ok((_, types)) = text(rest) else { return };
    frame(out, b'P', |out| {
        put_text(out, name);
        put_text(out, query.as_bytes());
        out.extend_from_slice(types);
    });
}

/// Writes Parse without parameter types.
pub(super) fn put_parse(out: &mut BytesMut, name: &[u8], text: &str) {
    frame(out, b'P', |out| {
        put_text(out, name);
        put_text(out, text.as_bytes());
        out.put_u16(0);
    });
}

/// Writes Bind without parameters, everything as text.
pub(super) fn put_bind(out: &mut BytesMut, portal: &[u8], statement: &[u8]) {
    frame(out, b'B', |out| {
        put_text(out, portal);
        put_text(out, statement);
        out.put_bytes(0, 6);
    });
}

/// Writes Execute.
pub(super) fn put_execute(out: &mut BytesMut, portal: &[u8], rows: u32) {
    frame(out, b'E', |out| {
        put_text(out, portal);
        out.put_u32(rows);
    });
}

/// Writes Describe (`D`) or Close (`C`) of a statement (`S`) or portal (`P`).
pub(super) fn put_target(out: &mut BytesMut, tag: u8, kind: u8, name: &[u8]) {
    frame(out, tag, |out| {
        out.put_u8(kind);
        put_text(out, name);
    });
}

/// Writes a message without a body: Flush, Sync, Terminate.
pub(super) fn put_bare(out: &mut BytesMut, tag: u8) {
    frame(out, tag, |_| ());
}

fn put_text(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_the_end_of_a_text_break_the_protocol() {
        assert_eq!(query(b"select 1\0"), Ok(b"select 1".as_slice()));
        assert_eq!(query(b"select 1\0drop table t\0"), Err(Malformed("there are bytes after the text")));
        assert_eq!(query(b"select 1"), Err(Malformed("a text has no end")));
        assert_eq!(parse(b"s\0select 1\0\0\0"), Ok((b"s".as_slice(), b"select 1".as_slice())));
        assert!(parse(b"s\0select 1\0\0\x01").is_err());
    }

    #[test]
    fn names_are_told_apart_by_as_many_bytes_as_the_server_compares() {
        let long = [b'x'; 80];
        assert_eq!(name(&long), name(long.get(..63).unwrap()));
        assert_ne!(name(&long), name(long.get(..62).unwrap()));
    }

    #[test]
    fn a_row_is_taken_apart() {
        let body = [&2_u16.to_be_bytes()[..], &3_u32.to_be_bytes(), b"abc", &u32::MAX.to_be_bytes()].concat();
        assert_eq!(row(&body), Some(vec![Some(Bytes::from_static(b"abc")), None]));
        assert_eq!(row(body.get(..7).unwrap()), None);
    }
}
