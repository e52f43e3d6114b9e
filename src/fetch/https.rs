//! One fetch: TCP, TLS, GET, redirects.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, ETAG, HOST, HeaderValue, IF_NONE_MATCH, LOCATION, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::FetchError;
use crate::tls::{EndpointTls, HandshakeRefusal, PublicTls};

/// Of redirects that are followed in one fetch.
const MAX_REDIRECTS: usize = 3;
/// The longest head of an answer in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// What is offered to servers.
pub const ALPN: &[&[u8]] = &[b"http/1.1"];

/// The longest ETag that is sent back.
const MAX_ETAG: usize = 1024;
/// Of what a server says, the most that a message repeats, in characters.
const MAX_SHOWN: usize = 256;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Where it is: `https`, with a host, without userinfo.
    pub url: &'a Uri,
    /// Its media type.
    pub accept: &'static str,
    /// What a document had that need not be sent again.
    pub etag: Option<&'a HeaderValue>,
    /// The longest document that is taken, in bytes.
    pub max_bytes: usize,
    /// For everything: names, connections, handshakes, redirects and the document itself.
    pub within: Duration,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The document is the one that has the ETag.
    NotModified,
    /// The document.
    Document(Document),
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// All of it.
    pub body: Bytes,
    /// What the server calls this version of it.
    pub etag: Option<HeaderValue>,
}

/// How a server proves itself.
#[derive(Debug)]
pub enum Proof {
    /// By a certificate for its host name.
    Web(PublicTls),
    /// By being one workload.
    Spiffe(EndpointTls),
}

impl Proof {
    async fn connect(&self, stream: TcpStream, host: &str) -> Result<Box<dyn Stream>, HandshakeRefusal> {
        Ok(match self {
            Self::Web(tls) => Box::new(tls.connect(stream, host).await?),
            Self::Spiffe(tls) => Box::new(tls.connect(stream, host).await?),
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Asks for a document once. Each redirect is followed for this time only, to a server that has to prove the same as the first.
///
/// # Source
/// SPIFFE Federation 5.2.1.4 and 5.2.2.4: clients SHOULD follow redirects to valid endpoint URLs, under the same TLS considerations, and
/// SHOULD NOT store where they lead.
///
/// # Errors
/// Nothing came, or not in time, or from somebody else.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn fetch(wanted: &Wanted<'_>, proof: &Proof) -> Result<Answer, FetchError> {
    let limit = wanted.within;
    let ends = Instant::now() + limit;
    timeout(limit, follow(wanted, proof, ends)).await.unwrap_or(Err(FetchError::Timeout { limit }))
}

async fn follow(wanted: &Wanted<'_>, proof: &Proof, ends: Instant) -> Result<Answer, FetchError> {
    let (mut url, mut from) = (wanted.url.clone(), String::new());
    for _ in 0..=MAX_REDIRECTS {
        match once(&url, wanted, proof, ends).await? {
            Step::Answer(answer) => return Ok(answer),
            Step::Redirect(target) => (from, url) = (host_of(&url), target),
        }
    }
    let location = shown(url.to_string().as_bytes());
    Err(FetchError::Redirect { host: from, location, reason: "there were too many redirects before" })
}

enum Step {
    Answer(Answer),
    Redirect(Uri),
}

async fn once(url: &Uri, wanted: &Wanted<'_>, proof: &Proof, ends: Instant) -> Result<Step, FetchError> {
    let host = host_of(url);
    let stream = tcp(&host, url.port_u16().unwrap_or(443), ends)
        .await
        .map_err(|error| FetchError::Connect { host: host.clone(), cause: error.to_string() })?;
    let stream = proof.connect(stream, &host).await.map_err(|refusal| FetchError::Handshake {
        host: host.clone(),
        rule: refusal.rule,
        cause: refusal.message,
    })?;
    let unreadable = |error: hyper::Error| FetchError::Http { host: host.clone(), cause: cause(&error) };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(unreadable)?;
    // Ends with this function, whichever way it ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender.send_request(request(url, wanted, &host)?).await.map_err(unreadable)?;
    match answer.status() {
        StatusCode::OK => document(answer, wanted.max_bytes, &host).await.map(Answer::Document).map(Step::Answer),
        StatusCode::NOT_MODIFIED if wanted.etag.is_some() => Ok(Step::Answer(Answer::NotModified)),
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => redirect(url, &host, &answer).map(Step::Redirect),
        status => Err(FetchError::Status { host, status: status.as_u16() }),
    }
}

fn request(url: &Uri, wanted: &Wanted<'_>, host: &str) -> Result<Request<Empty<Bytes>>, FetchError> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, authority)
        .header(ACCEPT, wanted.accept)
        .header(USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")));
    if let Some(etag) = wanted.etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let request = request.body(Empty::new());
    request.map_err(|error| FetchError::Http { host: host.to_owned(), cause: error.to_string() })
}

async fn document(answer: Response<Incoming>, max_bytes: usize, host: &str) -> Result<Document, FetchError> {
    let host = || host.to_owned();
    if let Some(encoding) = answer.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(FetchError::Encoding {
            host: host(),
            encoding: cut(&encoding.as_bytes().escape_ascii().to_string()),
        });
    }
    let etag = answer.headers().get(ETAG).filter(|etag| etag.len() <= MAX_ETAG).cloned();
    if answer.body().size_hint().lower() > max_bytes as u64 {
        return Err(FetchError::TooLong { host: host(), limit: max_bytes });
    }
    let collected = Limited::new(answer.into_body(), max_bytes).collect().await;
    let body = collected.map(http_body_util::Collected::to_bytes);
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => FetchError::TooLong { host: host(), limit: max_bytes },
        None => FetchError::Http { host: host(), cause: cause(error.as_ref()) },
    })?;
    Ok(Document { body, etag })
}

/// Where an answer leads, if a document may come from there.
fn redirect(from: &Uri, host: &str, answer: &Response<Incoming>) -> Result<Uri, FetchError> {
    let location = answer.headers().get(LOCATION).map_or(&b""[..], |location| location.as_bytes());
    target(from, location).map_err(|reason| FetchError::Redirect {
        host: host.to_owned(),
        location: shown(location),
        reason,
    })
}

/// Where a location leads, for messages: without user and query, which may hold what lets people in, and not endless.
fn shown(location: &[u8]) -> String {
    let location = location.escape_ascii().to_string();
    let place = location.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = place.split_once("//") else { return cut(place) };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let host = authority.rsplit('@').next().unwrap_or_default();
    cut(&[scheme, "//", host, path.map_or("", |_| "/"), path.unwrap_or_default()].concat())
}

/// With what lies behind it: hyper alone says no more than that there was an error.
fn cause(error: &(dyn Error + 'static)) -> String {
    let (mut said, mut behind) = (error.to_string(), error.source());
    while let Some(inner) = behind {
        said = format!("{said}: {inner}");
        behind = inner.source();
    }
    cut(&said)
}

fn cut(said: &str) -> String {
    match said.char_indices().nth(MAX_SHOWN).and_then(|(end, _)| said.get(..end)) {
        Some(beginning) => format!("{beginning}…"),
        None => said.to_owned(),
    }
}

/// # Source
/// SPIFFE Federation 5.2.1.1, 5.2.2.1: the scheme is `https`, and there is no userinfo. RFC 9110 10.2.2: a location may be relative.
fn target(from: &Uri, location: &[u8]) -> Result<Uri, &'static str> {
    let text = std::str::from_utf8(location).map_err(|_| "it is no URL")?;
    let text = text.split_once('#').map_or(text, |(url, _fragment)| url);
    let authority = from.authority().map_or("", |authority| authority.as_str());
    let absolute = match (text.strip_prefix("//"), text.starts_with('/')) {
        (Some(_), _) => format!("https:{text}"),
        (None, true) => format!("https://{authority}{text}"),
        (None, false) => text.to_owned(),
    };
    let url: Uri = absolute.parse().map_err(|_| "it is no URL")?;
    match (is_https(&url), url.scheme()) {
        (Err(_), None) => Err("it is neither a URL nor a path"),
        (checked, _) => checked.map(|()| url),
    }
}

/// Whether documents may be fetched from there: `https`, a host, no userinfo.
///
/// # Errors
/// Why not.
pub fn is_https(url: &Uri) -> Result<(), &'static str> {
    match (url.scheme_str(), url.authority()) {
        (Some("https"), Some(authority)) if authority.as_str().contains('@') => Err("it has a user name in it"),
        (Some("https"), Some(authority)) if !authority.host().is_empty() => Ok(()),
        (Some("https"), _) => Err("it has no host"),
        (_, _) => Err("it does not begin with `https://`"),
    }
}

/// Without the brackets of an IPv6 address.
fn host_of(url: &Uri) -> String {
    let host = url.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned()
}

async fn tcp(host: &str, port: u16, ends: Instant) -> io::Result<TcpStream> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return TcpStream::connect(SocketAddr::new(ip, port)).await;
    }
    first_that_accepts(&lookup_host((host, port)).await?.collect::<Vec<_>>(), ends).await
}

/// Each but the last has a slice of the time that is left, so that one that does not answer takes it from none after it; after the
/// last as much is left for what comes then.
async fn first_that_accepts(addresses: &[SocketAddr], ends: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let others = addresses.len() - tried - 1;
        let left = ends.saturating_duration_since(Instant::now());
        let slice = if others == 0 { left } else { left / u32::try_from(others + 2).unwrap_or(u32::MAX) };
        match timeout(slice, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_an_https_url_without_user_or_nowhere() {
        let from: Uri = "https://a.test:8443/bundle?x=1".parse().unwrap();
        for (location, url) in [
            ("https://b.test/y", "https://b.test/y"),
            ("https://b.test", "https://b.test/"),
            ("//b.test/y?z", "https://b.test/y?z"),
            ("/y", "https://a.test:8443/y"),
            ("https://[::1]:1/y#f", "https://[::1]:1/y"),
        ] {
            assert_eq!(target(&from, location.as_bytes()), Ok(url.parse().unwrap()), "{location}");
        }
        for (location, reason) in [
            ("http://b.test/y", "it does not begin with `https://`"),
            ("file:///etc/passwd", "it is no URL"),
            ("https://u@b.test/y", "it has a user name in it"),
            ("https://u:p@b.test/y", "it has a user name in it"),
            ("", "it is no URL"),
            ("y", "it is neither a URL nor a path"),
            ("https://", "it is no URL"),
            ("https:///y", "it is no URL"),
            ("https://b.test/\u{1}", "it is no URL"),
        ] {
            assert_eq!(target(&from, location.as_bytes()), Err(reason), "{location}");
        }
        assert_eq!(target(&from, b"https://b.test/\xff"), Err("it is no URL"));
    }

    #[test]
    fn of_a_location_a_message_has_host_and_path_and_no_more_than_fits_a_line() {
        for (location, said) in [
            ("http://b.test:80/y?token=secret", "http://b.test:80/y"),
            ("https://user:secret@b.test/y/z#secret", "https://b.test/y/z"),
            ("https://user:secret@b.test", "https://b.test"),
            ("//secret@b.test/a@b", "//b.test/a@b"),
            ("https://b.test?secret", "https://b.test"),
            ("y?secret", "y"),
            ("\u{1}", "\\x01"),
            ("", ""),
        ] {
            assert_eq!(shown(location.as_bytes()), said, "{location}");
        }
        let long = shown(format!("https://b.test/{}", "x".repeat(60_000)).as_bytes());
        assert!(long.starts_with("https://b.test/xxx") && long.ends_with("x…"), "{long}");
        assert_eq!(long.chars().count(), MAX_SHOWN + 1);
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next_one() {
        // A queue that is full: further SYNs are dropped, as by a firewall.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = socket.listen(1).unwrap();
        let address = silent.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
            assert!(queued.len() < 64, "the queue is never full");
        }
        let answers = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [address, answers.local_addr().unwrap()];
        let limit = Duration::from_secs(3);
        let connected = timeout(limit, first_that_accepts(&addresses, Instant::now() + limit)).await;
        assert_eq!(connected.expect("in time").unwrap().peer_addr().unwrap(), addresses[1]);
        let error = first_that_accepts(&[address], Instant::now() + Duration::from_millis(200)).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::TimedOut, format!("{address} does not answer")));
    }
}
