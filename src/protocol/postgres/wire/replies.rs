//! The messages that the proxy writes itself, and the fields of an ErrorResponse.

use std::borrow::Cow;

use bytes::{BufMut as _, BytesMut};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol::postgres) enum Severity {
    /// The statement failed, the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

/// An ErrorResponse of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::protocol::postgres) struct ErrorReply<'a> {
    /// How bad it is.
    pub(in crate::protocol::postgres) severity: Severity,
    /// Five characters.
    pub(in crate::protocol::postgres) sqlstate: &'a str,
    /// One line.
    pub(in crate::protocol::postgres) message: Cow<'a, str>,
    /// Further words.
    pub(in crate::protocol::postgres) detail: Option<Cow<'a, str>>,
    /// What to do.
    pub(in crate::protocol::postgres) hint: Option<Cow<'a, str>>,
    /// Where in the text, in characters from 1.
    pub(in crate::protocol::postgres) position: Option<u32>,
}

impl<'a> ErrorReply<'a> {
    /// An error that ends the session.
    pub(in crate::protocol::postgres) fn fatal(sqlstate: &'a str, message: impl Into<Cow<'a, str>>) -> Self {
        let severity = Severity::Fatal;
        Self { severity, sqlstate, message: message.into(), detail: None, hint: None, position: None }
    }

    /// The same with a DETAIL.
    pub(in crate::protocol::postgres) fn with_detail(mut self, detail: impl Into<Cow<'a, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same with a HINT.
    pub(in crate::protocol::postgres) fn with_hint(mut self, hint: impl Into<Cow<'a, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Writes a message: its tag, its length, and what `body` writes.
pub(in crate::protocol::postgres) fn frame(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    // No message of ours comes near 4 GiB.
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// A text with its NUL; what follows a NUL within it is left out, as the peer would read it as another field.
fn text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.put_u8(0);
}

/// ErrorResponse.
///
/// # Source
/// "Error and Notice Message Fields": S localised severity, V the same never localised (since 9.6), C SQLSTATE, M, D, H, P.
pub(in crate::protocol::postgres) fn error(out: &mut BytesMut, reply: &ErrorReply<'_>) {
    let severity = match reply.severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    let position = reply.position.map(|position| Cow::Owned(position.to_string()));
    frame(out, b'E', |out| {
        for (code, value) in [(b'S', severity), (b'V', severity), (b'C', reply.sqlstate), (b'M', &*reply.message)] {
            out.put_u8(code);
            text(out, value);
        }
        for (code, value) in [(b'D', &reply.detail), (b'H', &reply.hint), (b'P', &position)] {
            if let Some(value) = value {
                out.put_u8(code);
                text(out, value);
            }
        }
        out.put_u8(0);
    });
}

/// NoticeResponse, of severity NOTICE.
pub(in crate::protocol::postgres) fn notice(out: &mut BytesMut, message: &str) {
    frame(out, b'N', |out| {
        for (code, value) in [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', message)] {
            out.put_u8(code);
            text(out, value);
        }
        out.put_u8(0);
    });
}

/// The fields of an ErrorResponse's or NoticeResponse's body: their codes and values.
pub(in crate::protocol::postgres) fn error_fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    body.split(|byte| *byte == 0).map_while(|field| field.split_first().map(|(code, value)| (*code, value)))
}

/// AuthenticationOk.
pub(in crate::protocol::postgres) fn authentication_ok(out: &mut BytesMut) {
    frame(out, b'R', |out| out.put_u32(0));
}

/// AuthenticationSASL with the mechanisms on offer.
pub(in crate::protocol::postgres) fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    frame(out, b'R', |out| {
        out.put_u32(10);
        mechanisms.iter().for_each(|mechanism| text(out, mechanism));
        out.put_u8(0);
    });
}

/// ParameterStatus.
pub(in crate::protocol::postgres) fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    frame(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

/// BackendKeyData.
pub(in crate::protocol::postgres) fn backend_key_data(out: &mut BytesMut, pid: u32, secret: &[u8]) {
    frame(out, b'K', |out| {
        out.put_u32(pid);
        out.put_slice(secret);
    });
}

/// ReadyForQuery: `I` idle, `T` in a transaction, `E` in a failed one.
pub(in crate::protocol::postgres) fn ready_for_query(out: &mut BytesMut, status: u8) {
    frame(out, b'Z', |out| out.put_u8(status));
}

/// NegotiateProtocolVersion: the newest version of ours, and the options that are not understood.
pub(in crate::protocol::postgres) fn negotiate_protocol_version(out: &mut BytesMut, minor: u16, unknown: &[&str]) {
    frame(out, b'v', |out| {
        // The whole version since 9.3.21 and its like, whatever the chapter says of "minor" (`SendNegotiateProtocolVersion`).
        out.put_u32(3 << 16 | u32::from(minor));
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
        unknown.iter().for_each(|option| text(out, option));
    });
}
