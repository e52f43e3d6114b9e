use std::num::NonZeroU32;
use std::time::Duration;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::authenticate::{Credentials, authenticate};
use super::error::LoginError;
use super::passthrough;
use crate::config::PasswordSource;
use crate::protocol::postgres::wire::{
    ErrorReply, FrameReader, Side, authentication_ok, authentication_sasl, error, frame, parameter_status,
    ready_for_query,
};

const PASSWORD: &str = "correct horse";

fn reader(side: Side) -> FrameReader {
    FrameReader::new(side, BytesMut::new())
}

fn of_client() -> FrameReader {
    reader(Side::Client { message_bytes: 10_000 })
}

/// A server that follows a script.
struct Server {
    io: DuplexStream,
    reader: FrameReader,
}

impl Server {
    async fn says(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        write(&mut out);
        self.io.write_all(&out).await.unwrap();
    }

    async fn asks(&mut self, kind: u32, rest: &[u8]) {
        self.says(|out| {
            frame(out, b'R', |out| {
                out.put_u32(kind);
                out.put_slice(rest);
            });
        })
        .await;
    }

    /// The body of the client's next message, none at the end.
    async fn hears(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.reader.next().unwrap() {
                assert_eq!(frame.tag(), b'p');
                return Some(frame.into_bytes().slice(5..));
            }
            if self.reader.fill(&mut self.io).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// SCRAM as RFC 5802, 3, has it; says whether the proof was right, and proves itself with `own` password.
    async fn scram(&mut self, mechanisms: &[&str], own: &str) -> (Bytes, Bytes, bool) {
        self.says(|out| authentication_sasl(out, mechanisms)).await;
        let first = self.hears().await.unwrap();
        let end = first.iter().position(|byte| *byte == 0).unwrap();
        let client_first = String::from_utf8(first[end + 5..].to_vec()).unwrap();
        let bare = client_first.splitn(3, ',').nth(2).unwrap();
        let nonce = bare.split("r=").nth(1).unwrap();
        let challenge = format!("r={nonce}server,s={},i=4096", STANDARD.encode("salt"));
        self.asks(11, challenge.as_bytes()).await;
        let last = String::from_utf8(self.hears().await.unwrap().to_vec()).unwrap();
        let (without_proof, proof) = last.rsplit_once(",p=").unwrap();
        let signed = format!("{bare},{challenge},{without_proof}");
        let mut salted = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            NonZeroU32::new(4_096).unwrap(),
            b"salt",
            own.as_bytes(),
            &mut salted,
        );
        let sign =
            |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec();
        let client_key = sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client_key);
        let signature = sign(stored.as_ref(), signed.as_bytes());
        let expected: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let is_right = STANDARD.decode(proof).unwrap() == expected;
        let verifier = sign(&sign(&salted, b"Server Key"), signed.as_bytes());
        self.asks(12, format!("v={}", STANDARD.encode(verifier)).as_bytes()).await;
        (first, last.into(), is_right)
    }
}

fn pair() -> (DuplexStream, Server) {
    let (near, io) = duplex(64 * 1024);
    (near, Server { io, reader: of_client() })
}

async fn proxy(mut io: DuplexStream, end_point: Option<Vec<u8>>, encrypted: bool) -> Result<(), LoginError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PASSWORD).unwrap();
    let source = PasswordSource::File(file.path().into());
    let credentials =
        Credentials { user: "app", database: "db", host: "h", port: 1, password: Some(&source), end_point, encrypted };
    authenticate(&mut io, &mut reader(Side::Server), &credentials, &mut Vec::new()).await
}

#[test]
fn a_password_program_is_told_of_sockets_as_libpq_has_them() {
    assert_eq!(super::as_libpq_has_it("/run/postgresql/.s.PGSQL.5433", 0), ("/run/postgresql", 5433));
    assert_eq!(super::as_libpq_has_it("db.example", 5432), ("db.example", 5432));
}

#[tokio::test]
async fn trust_and_md5_log_in() {
    let (near, mut server) = pair();
    server.says(authentication_ok).await;
    proxy(near, None, false).await.unwrap();

    let (near, mut server) = pair();
    let login = tokio::spawn(proxy(near, None, false));
    server.asks(5, b"salt").await;
    let expected = postgres_protocol::authentication::md5_hash(b"app", PASSWORD.as_bytes(), *b"salt");
    assert_eq!(server.hears().await.unwrap(), format!("{expected}\0"));
    server.says(authentication_ok).await;
    login.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_password_in_clear_goes_through_verified_tls_only() {
    let (near, mut server) = pair();
    let login = tokio::spawn(proxy(near, None, false));
    server.asks(3, b"").await;
    assert_eq!(server.hears().await, None, "not a byte of it");
    assert!(matches!(login.await.unwrap(), Err(LoginError::Cleartext)));

    let (near, mut server) = pair();
    let login = tokio::spawn(proxy(near, None, true));
    server.asks(3, b"").await;
    assert_eq!(server.hears().await.unwrap(), format!("{PASSWORD}\0"));
    server.says(authentication_ok).await;
    login.await.unwrap().unwrap();
}

#[tokio::test]
async fn scram_proves_both_ends_to_each_other() {
    let (near, mut server) = pair();
    let login = tokio::spawn(proxy(near, None, false));
    let (first, _, is_right) = server.scram(&["SCRAM-SHA-256"], PASSWORD).await;
    assert!(is_right && first.starts_with(b"SCRAM-SHA-256\0"));
    server.says(authentication_ok).await;
    login.await.unwrap().unwrap();

    let (near, mut server) = pair();
    let login = tokio::spawn(proxy(near, None, false));
    server.scram(&["SCRAM-SHA-256"], "another").await;
    server.says(authentication_ok).await;
    assert!(
        matches!(login.await.unwrap(), Err(LoginError::Unproved { .. })),
        "a server that does not know the password"
    );
}

#[tokio::test]
async fn scram_is_bound_to_tls_wherever_both_can() {
    let (near, mut server) = pair();
    let login = tokio::spawn(proxy(near, Some(b"hash".to_vec()), true));
    let (first, last, is_right) = server.scram(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], PASSWORD).await;
    assert!(is_right && first.starts_with(b"SCRAM-SHA-256-PLUS\0"));
    let bound = format!("c={},", STANDARD.encode(b"p=tls-server-end-point,,hash"));
    assert!(last.starts_with(bound.as_bytes()), "{last:?}");
    server.says(authentication_ok).await;
    login.await.unwrap().unwrap();

    let (near, mut server) = pair();
    let login = tokio::spawn(proxy(near, Some(b"hash".to_vec()), true));
    let (first, _, _) = server.scram(&["SCRAM-SHA-256"], PASSWORD).await;
    let flag = first.iter().position(|byte| *byte == 0).unwrap() + 5;
    assert_eq!(first[flag], b'y', "a server whose offer was stripped would notice");
    server.says(authentication_ok).await;
    login.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_leaves_scram_out_in_the_middle_is_not_trusted() {
    let (near, mut server) = pair();
    let login = tokio::spawn(proxy(near, None, false));
    server.says(|out| authentication_sasl(out, &["SCRAM-SHA-256"])).await;
    server.hears().await.unwrap();
    server.says(authentication_ok).await;
    assert!(matches!(login.await.unwrap(), Err(LoginError::Server { .. })));
}

#[tokio::test]
async fn what_the_server_refuses_is_told_but_not_how_we_log_in() {
    let refused = |sqlstate: &'static str| async move {
        let (near, mut server) = pair();
        server.says(|out| error(out, &ErrorReply::fatal(sqlstate, "the server's words"))).await;
        proxy(near, None, false).await.unwrap_err()
    };
    let missing = refused("3D000").await;
    assert_eq!((missing.reply(false).sqlstate, &*missing.reply(false).message), ("3D000", "the server's words"));
    let password = refused("28P01").await;
    assert_eq!(
        (password.reply(false).sqlstate, &*password.reply(false).message),
        ("28P01", "the server refused the login of this role")
    );
    assert_eq!(&*password.reply(true).message, "the server's words", "its own login is the client's business");
    assert!(password.to_string().contains("the server's words"), "the record has them");
}

#[tokio::test]
async fn other_authentication_and_other_messages_are_refused() {
    let (near, mut server) = pair();
    server.asks(7, b"").await;
    assert!(matches!(proxy(near, None, false).await, Err(LoginError::Unsupported { kind: 7 })));
    let (near, mut server) = pair();
    server.says(|out| ready_for_query(out, b'I')).await;
    assert!(matches!(proxy(near, None, false).await, Err(LoginError::Server { .. })));
    let (near, server) = pair();
    drop(server);
    assert!(matches!(proxy(near, None, false).await, Err(LoginError::Server { .. })));
}

#[tokio::test]
async fn a_server_whose_statements_could_not_be_judged_is_not_used() {
    let greeted = |version: &'static str, strings: &'static str| async move {
        let (mut near, mut server) = pair();
        server
            .says(|out| {
                parameter_status(out, "server_version", version);
                parameter_status(out, "standard_conforming_strings", strings);
                ready_for_query(out, b'I');
            })
            .await;
        super::greeting::read(&mut near, &mut reader(Side::Server), &mut Vec::new()).await.map(|_| ())
    };
    greeted("15.20 (Debian 15.20-1)", "on").await.unwrap();
    greeted("18beta1", "on").await.unwrap();
    for version in ["13.5", "19devel", "", "x"] {
        assert!(matches!(greeted(version, "on").await, Err(LoginError::Version { .. })), "{version}");
    }
    assert!(matches!(greeted("15.1", "off").await, Err(LoginError::NonconformingStrings)));
}

/// A client that logs in through the proxy.
async fn passed(binds: bool, flag: &str, tag: u8) -> (Result<Vec<Bytes>, LoginError>, BytesMut, Option<Bytes>) {
    let (mut client, mut near) = duplex(64 * 1024);
    let (mut far, mut server) = pair();
    let relaying = tokio::spawn(async move {
        let mut asked = false;
        let relayed =
            passthrough::relay(&mut near, &mut of_client(), &mut far, &mut reader(Side::Server), binds, &mut asked)
                .await;
        assert!(asked, "the client has seen the offer");
        relayed
    });
    server.says(|out| authentication_sasl(out, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])).await;
    let mut offered = BytesMut::new();
    client.read_buf(&mut offered).await.unwrap();
    let mut out = BytesMut::new();
    frame(&mut out, tag, |out| {
        let message = format!("{flag},,n=,r=nonce");
        out.put_slice(b"SCRAM-SHA-256\0");
        out.put_u32(u32::try_from(message.len()).unwrap());
        out.put_slice(message.as_bytes());
    });
    client.write_all(&out).await.unwrap();
    // Its end of the connection goes with the relay.
    let heard = tokio::time::timeout(Duration::from_secs(30), server.hears()).await.expect("a word, or the end");
    if heard.is_some() {
        server.says(authentication_ok).await;
    }
    (relaying.await.unwrap(), offered, heard)
}

#[tokio::test]
async fn a_client_that_proves_itself_is_never_offered_to_bind() {
    let (relayed, offered, heard) = passed(false, "y", b'p').await;
    relayed.unwrap();
    let mut expected = BytesMut::new();
    authentication_sasl(&mut expected, &["SCRAM-SHA-256"]);
    assert_eq!(offered, expected);
    assert!(heard.unwrap().ends_with(b"y,,n=,r=nonce"));
}

#[tokio::test]
async fn two_tls_connections_and_a_client_that_could_bind_are_refused_with_the_reason() {
    let (relayed, _, heard) = passed(true, "y", b'p').await;
    let refused = relayed.unwrap_err();
    assert_eq!(heard, None);
    assert!(refused.reply(true).hint.unwrap().contains("channel_binding=disable"));
    passed(true, "n", b'p').await.0.unwrap();
}

#[tokio::test]
async fn only_authentication_passes_before_the_session() {
    let (relayed, _, heard) = passed(false, "n", b'Q').await;
    assert!(matches!(relayed, Err(LoginError::Client { .. })));
    assert_eq!(heard, None);
}
