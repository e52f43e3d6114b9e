//! What comes before TLS on an inbound listener.

use std::mem::MaybeUninit;

use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::answer::{NoPacket, fatal, first_packet, malformed};
use super::wire::{ErrorReply, FirstPacket};
use crate::protocol::Closed;

/// How an inbound connection goes on before TLS.
#[derive(Debug)]
pub enum Opening {
    /// With the handshake: the next bytes are a ClientHello. `direct` if no SSLRequest came before.
    Handshake {
        /// PostgreSQL 17's direct TLS, where ALPN must be `postgresql`.
        direct: bool,
    },
    /// Not at all: it has been answered.
    Ended(Closed),
}

/// The first byte of a TLS record with a handshake message (RFC 8446, 5.1). No packet of PostgreSQL begins with it: it would be 352 MiB
/// long.
const TLS_HANDSHAKE: u8 = 0x16;

/// Reads what comes before TLS: SSLRequest, GSSENCRequest, or TLS at once.
///
/// Nothing is read beyond a request. Bytes behind one that were sent before its answer are a violation: they would look as if they had come
/// inside TLS (CVE-2021-23214). A plaintext CancelRequest is dropped without an answer: nobody has proved to be anybody.
pub async fn open(stream: &mut TcpStream) -> Opening {
    let mut gss_refused = false;
    loop {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1..) if first == [TLS_HANDSHAKE] => return Opening::Handshake { direct: true },
            Ok(1..) => {}
            Ok(0) | Err(_) => return Opening::Ended(Closed::InOrder),
        }
        let packet = match first_packet(stream).await {
            Ok(packet) => packet,
            Err(NoPacket::Gone) => return Opening::Ended(Closed::InOrder),
            Err(NoPacket::Malformed(broken)) => return Opening::Ended(malformed(stream, broken).await),
        };
        let answer = match packet {
            FirstPacket::SslRequest => b"S",
            FirstPacket::GssEncRequest if !gss_refused => b"N",
            FirstPacket::GssEncRequest => return refused("repeated-request", "GSSENCRequest came twice"),
            FirstPacket::Cancel(_) => return Opening::Ended(Closed::InOrder),
            FirstPacket::Startup(_) => {
                let message = "this port takes mutual TLS only";
                let hint = "Connect by way of a sidecar, or with sslmode=verify-ca, sslrootcert, sslcert and sslkey.";
                fatal(stream, &ErrorReply::fatal("28000", message).with_hint(hint)).await;
                return refused("plaintext", "a session was asked for without TLS");
            }
        };
        if more_is_there(stream) {
            return refused("bytes-before-tls", "bytes came behind the request for encryption, before its answer");
        }
        if stream.write_all(answer).await.is_err() {
            return Opening::Ended(Closed::InOrder);
        }
        if answer == b"S" {
            return Opening::Handshake { direct: false };
        }
        gss_refused = true;
    }
}

fn refused(rule: &'static str, message: &str) -> Opening {
    Opening::Ended(Closed::Refused { rule, message: message.to_owned() })
}

/// Whether bytes have arrived that nobody has read. Asks the system and not the runtime, which learns of new bytes only when it next looks.
fn more_is_there(stream: &TcpStream) -> bool {
    SockRef::from(stream).peek(&mut [MaybeUninit::new(0)]).is_ok_and(|bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::protocol::postgres::wire::{StartupPacket, error_fields};

    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
    const CLIENT_HELLO: [u8; 3] = [0x16, 3, 1];

    /// What comes of a client that sends each of `parts` when the one before has been answered by a byte; and what it reads in the end.
    async fn opened(parts: &[&[u8]]) -> (Opening, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let opening = tokio::spawn(async move {
            let opening = open(&mut server).await;
            (opening, server)
        });
        let mut answers = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                answers.push(client.read_u8().await.unwrap());
            }
            client.write_all(part).await.unwrap();
        }
        if !parts.last().unwrap().starts_with(&[0x16]) {
            client.shutdown().await.unwrap();
        }
        let (opening, server) = opening.await.unwrap();
        drop(server);
        let _reset_by_the_server = client.read_to_end(&mut answers).await;
        (opening, answers)
    }

    fn rule(opening: &Opening) -> &'static str {
        match opening {
            Opening::Handshake { direct: true } => "direct",
            Opening::Handshake { direct: false } => "handshake",
            Opening::Ended(Closed::Refused { rule, .. }) => rule,
            Opening::Ended(Closed::InOrder) => "closed",
            Opening::Ended(_) => "other",
        }
    }

    #[tokio::test]
    async fn tls_begins_after_a_request_or_at_once() {
        let (opening, answers) = opened(&[&SSL_REQUEST, &CLIENT_HELLO]).await;
        assert_eq!((rule(&opening), answers.as_slice()), ("handshake", b"S".as_slice()));
        let (opening, answers) = opened(&[&GSSENC_REQUEST, &SSL_REQUEST, &CLIENT_HELLO]).await;
        assert_eq!((rule(&opening), answers.as_slice()), ("handshake", b"NS".as_slice()));
        let (opening, answers) = opened(&[&GSSENC_REQUEST, &CLIENT_HELLO]).await;
        assert_eq!((rule(&opening), answers.as_slice()), ("direct", b"N".as_slice()));
        assert_eq!(rule(&opened(&[&CLIENT_HELLO]).await.0), "direct");
    }

    #[tokio::test]
    async fn bytes_behind_a_request_that_could_pass_for_bytes_from_inside_tls_end_the_connection() {
        let startup = b"\0\0\0\x11\0\x03\0\0user\0u\0\0\0";
        let (opening, answers) = opened(&[&[SSL_REQUEST.as_slice(), startup].concat()]).await;
        assert_eq!((rule(&opening), answers.len()), ("bytes-before-tls", 0));
        let (opening, _) = opened(&[&[SSL_REQUEST.as_slice(), &CLIENT_HELLO].concat()]).await;
        assert_eq!(rule(&opening), "bytes-before-tls");
    }

    #[tokio::test]
    async fn a_session_without_tls_is_refused_in_words_and_a_cancel_without_any() {
        let mut startup = StartupPacket::new(0);
        startup.set("user", "u");
        let (opening, answer) = opened(&[&startup.to_bytes()]).await;
        assert_eq!(rule(&opening), "plaintext");
        let fields: Vec<_> = error_fields(&answer[5..]).collect();
        assert!(fields.contains(&(b'S', b"FATAL")) && fields.contains(&(b'C', b"28000")), "{fields:?}");
        let cancel = [16_u32, 80_877_102, 7, 9].map(u32::to_be_bytes).concat();
        let (opening, answer) = opened(&[&cancel]).await;
        assert_eq!((rule(&opening), answer.len()), ("closed", 0));
    }

    #[tokio::test]
    async fn what_is_no_packet_is_refused_with_its_rule() {
        assert_eq!(rule(&opened(&[b"GET / HTTP/1.1\r\n\r\n"]).await.0), "startup-length");
        assert_eq!(rule(&opened(&[&GSSENC_REQUEST, &GSSENC_REQUEST]).await.0), "repeated-request");
        assert_eq!(rule(&opened(&[b"\0\0\0\x08\0\x02\0\0"]).await.0), "protocol-version");
    }
}
