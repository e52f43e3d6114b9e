use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::SystemTime;

use super::*;
use crate::admin::routes::MOST_EXPLANATIONS;
use crate::admin::{
    AuditStatus, IdentityStatus, ListenerStatus, NotReady, PolicyStatus, ProbeError, ProbeTarget, Status, probe_ready,
};
use crate::telemetry::{logs, metrics};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct App {
    reasons: Mutex<Vec<NotReady>>,
    shutdowns: AtomicUsize,
    explaining: Mutex<Explaining>,
    explained: Condvar,
}

/// How many explanations are being made; while `is_slow` none gets done.
#[derive(Debug, Default)]
struct Explaining {
    is_slow: bool,
    at_once: usize,
    most: usize,
}

impl App {
    fn explain(&self) {
        let mut explaining = self.explaining.lock().unwrap();
        explaining.at_once += 1;
        explaining.most = explaining.most.max(explaining.at_once);
        self.explained.notify_all();
        explaining = self.explained.wait_while(explaining, |explaining| explaining.is_slow).unwrap();
        explaining.at_once -= 1;
        self.explained.notify_all();
    }

    fn explain_slowly(&self, is_slow: bool) {
        self.explaining.lock().unwrap().is_slow = is_slow;
        self.explained.notify_all();
    }

    fn when_explaining(&self, at_once: usize) {
        let explaining = self.explaining.lock().unwrap();
        let not_yet = |explaining: &mut Explaining| explaining.at_once != at_once;
        let (explaining, waited) = self.explained.wait_timeout_while(explaining, PATIENCE, not_yet).unwrap();
        assert!(!waited.timed_out(), "{at_once} are never made at once: {explaining:?}");
    }
}

impl AdminState for App {
    fn shadow(&self) -> serde_json::Value {
        serde_json::json!({ "flips": [] })
    }

    fn denials(&self, most: usize) -> serde_json::Value {
        self.explain();
        serde_json::json!({ "asked_for": most })
    }

    fn not_ready(&self) -> Vec<NotReady> {
        self.reasons.lock().unwrap().clone()
    }

    fn status(&self) -> Status {
        Status {
            draining: false,
            identity: IdentityStatus {
                source: "files",
                spiffe_id: Some("spiffe://pipeline.example/ns/etl/sa/transform".to_owned()),
                not_after: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_469_918_176_385)),
                generation: Some(2),
                ..IdentityStatus::default()
            },
            policy: PolicyStatus { digest: "sha256:00".to_owned(), generation: 3, ..PolicyStatus::default() },
            listeners: vec![ListenerStatus {
                name: "lake".to_owned(),
                direction: "inbound",
                protocol: "s3",
                address: "127.0.0.1:40001".to_owned(),
                upstream: "http://127.0.0.1:9000".to_owned(),
                connections: 4,
            }],
            audit: AuditStatus::default(),
        }
    }

    fn shutdown(&self) {
        self.shutdowns.fetch_add(1, Ordering::Relaxed);
    }
}

/// The three doors, served on a thread of their own until dropped.
struct Running {
    app: Arc<App>,
    addresses: Addresses,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let local = "127.0.0.1:0".parse().unwrap();
        let health = HealthConfig { listen: local, metrics: true };
        let admin = AdminConfig { listen: Some(local), socket: Some(folder.path().join("admin.sock")) };
        let server = AdminServer::bind(Some(&health), &admin).unwrap();
        let addresses = server.addresses().clone();
        let app = Arc::new(App::default());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let state: Arc<dyn AdminState> = Arc::clone(&app) as _;
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    served = server.serve(state, metrics::install().unwrap()) => panic!("ended by itself: {served:?}"),
                    _ = stopped => {}
                }
            });
        });
        Self { app, addresses, stop: Some(stop), thread: Some(thread), _folder: folder }
    }

    fn not_ready(&self, reasons: &[(&'static str, &str)]) {
        let reasons = reasons.iter().map(|(reason, message)| NotReady { reason, message: (*message).to_owned() });
        *self.app.reasons.lock().unwrap() = reasons.collect();
    }

    fn health(&self, request: &str) -> (u16, String) {
        over_tcp(self.addresses.health.unwrap(), request)
    }

    fn admin(&self, request: &str) -> (u16, String) {
        over_tcp(self.addresses.listen.unwrap(), request)
    }

    fn socket(&self, request: &str) -> (u16, String) {
        let stream = UnixStream::connect(self.addresses.socket.as_ref().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&stream, request)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

fn over_tcp(address: SocketAddr, request: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(&stream, request)
}

/// `request` is method and target, then further header lines.
fn exchange<S: Copy + Read + Write>(mut stream: S, request: &str) -> (u16, String) {
    let (line, headers) = request.split_once('\n').unwrap_or((request, "host: localhost"));
    let headers = headers.replace('\n', "\r\n");
    write!(stream, "{line} HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status =
        answer.split_ascii_whitespace().nth(1).unwrap_or_else(|| panic!("no status: {answer:?}")).parse().unwrap();
    (status, answer)
}

fn body(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn readiness_follows_the_app_and_startup_stays_once_reached() {
    let running = Running::start();
    running.not_ready(&[("identity", "no SVID: `/run/svid/svid.pem` does not exist"), ("audit", "disk full")]);
    assert_eq!(running.health("GET /live").0, 200);
    assert_eq!(running.health("GET /startup").0, 503);
    let (status, answer) = running.health("GET /ready");
    assert_eq!(status, 503);
    assert_eq!(
        body(&answer),
        serde_json::json!({"ready": false, "reasons": [{"reason": "identity"}, {"reason": "audit"}]})
    );
    let (_, answer) = running.admin("GET /ready");
    assert_eq!(body(&answer)["reasons"][0]["message"], "no SVID: `/run/svid/svid.pem` does not exist");

    running.not_ready(&[]);
    assert_eq!((running.health("GET /startup").0, running.health("GET /ready").0), (200, 200));
    running.not_ready(&[("draining", "on the way out")]);
    assert_eq!(
        (running.health("GET /startup").0, running.health("GET /ready").0, running.health("GET /live").0),
        (200, 503, 200)
    );
}

#[test]
fn status_shows_the_app_and_where_the_doors_are() {
    let running = Running::start();
    let (status, answer) = running.admin("GET /status");
    assert_eq!(status, 200, "{answer}");
    let status = body(&answer);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["ready"], true);
    assert_eq!(status["identity"]["not_after"], "2016-07-30T22:36:16.385Z");
    assert_eq!(status["policy"]["generation"], 3);
    assert_eq!(status["listeners"][0]["connections"], 4);
    assert_eq!(status["admin"]["listen"], running.addresses.listen.unwrap().to_string());
    assert_ne!(running.addresses.listen.unwrap().port(), 0);
    assert_eq!(running.health("GET /status").0, 404);
    assert_eq!(body(&running.socket("GET /status").1)["admin"], status["admin"]);
}

#[test]
fn metrics_are_shown_at_every_door() {
    let running = Running::start();
    for (status, answer) in
        [running.health("GET /metrics"), running.admin("GET /metrics"), running.socket("GET /metrics")]
    {
        assert_eq!(status, 200);
        assert!(
            answer.contains("content-type: text/plain; version=0.0.4") && answer.contains("\nportcullis_build_info{"),
            "{answer}"
        );
    }
}

#[test]
fn shutdown_is_asked_for_by_post_from_loopback_only() {
    let running = Running::start();
    assert_eq!(running.admin("GET /shutdown").0, 405);
    assert_eq!(running.admin("POST /shutdown\nhost: evil.example").0, 403);
    assert_eq!(running.admin("POST /shutdown\nhost: localhost\norigin: http://evil.example").0, 403);
    assert_eq!(running.health("POST /shutdown").0, 404);
    assert_eq!(running.app.shutdowns.load(Ordering::Relaxed), 0);
    assert_eq!(running.admin("POST /shutdown").0, 200);
    assert_eq!(running.admin("POST /quitquitquit").0, 200);
    assert_eq!(running.socket("POST /shutdown").0, 200);
    assert_eq!(running.app.shutdowns.load(Ordering::Relaxed), 3);
}

#[test]
fn the_log_filter_is_read_and_changed_on_the_socket_only() {
    let running = Running::start();
    let _turn = logs::TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    logs::init(logs::Format::Json, "error").unwrap();
    assert_eq!((running.admin("GET /log").0, running.health("GET /log").0), (404, 404));
    let (status, answer) = running.socket("PUT /log?filter=a%3Db%3Dc");
    assert!(status == 400 && answer.contains("log filter `a=b=c`"), "{answer}");
    assert_eq!(running.socket("PUT /log").0, 400);
    let (status, answer) = running.socket("PUT /log?filter=portcullis%3Dwarn,error");
    assert!(status == 200 && answer.ends_with("\r\n\r\nportcullis=warn,error\n"), "{answer}");
    assert!(running.socket("GET /log").1.ends_with("\r\n\r\nportcullis=warn,error\n"));
}

#[test]
fn a_probe_tells_ready_from_not_ready_from_not_there() {
    let running = Running::start();
    let targets = [
        ProbeTarget::Tcp(running.addresses.health.unwrap()),
        ProbeTarget::Unix(running.addresses.socket.clone().unwrap()),
    ];
    for target in &targets {
        running.not_ready(&[]);
        probe_ready(target, PATIENCE).unwrap();
        running.not_ready(&[("identity", "no SVID")]);
        let error = probe_ready(target, PATIENCE).unwrap_err();
        assert!(
            matches!(&error, ProbeError::NotReady { reasons, .. } if reasons == "identity" || reasons == "no SVID"),
            "{error}"
        );
    }
    drop(running);
    for target in &targets {
        assert!(matches!(probe_ready(target, PATIENCE), Err(ProbeError::Unreachable { .. })));
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = ProbeTarget::Tcp(silent.local_addr().unwrap());
    let error = probe_ready(&target, Duration::from_millis(20)).unwrap_err();
    assert!(
        matches!(&error, ProbeError::Unreachable { source, .. } if source.kind() == io::ErrorKind::TimedOut),
        "{error}"
    );
}

#[test]
fn connections_beyond_the_limit_are_closed_and_the_others_served() {
    let running = Running::start();
    let address = running.addresses.listen.unwrap();
    // Each is answered once, so it is known to be accepted, and then kept.
    let mut held: Vec<_> = (0..MOST_CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let mut refused = TcpStream::connect(address).unwrap();
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(refused.read(&mut [0; 16]).unwrap_or(0), 0, "closed without an answer");
    let last = held.last_mut().unwrap();
    last.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut rest = String::new();
    last.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("HTTP/1.1 200"), "{rest}");
    assert_eq!(running.health("GET /live").0, 200, "the other doors are not concerned");
}

#[test]
fn few_explanations_are_made_at_once_and_who_leaves_makes_no_room_for_more() {
    let running = Running::start();
    running.app.explain_slowly(true);
    let ask = || {
        let mut stream = UnixStream::connect(running.addresses.socket.as_ref().unwrap()).unwrap();
        stream.write_all(b"GET /explain?last=1 HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        stream
    };
    let asking: Vec<_> = (0..MOST_EXPLANATIONS * 3).map(|_| ask()).collect();
    running.app.when_explaining(MOST_EXPLANATIONS);
    assert_eq!(running.socket("GET /live").0, 200, "other things do not wait for them");
    drop(asking);
    let asking: Vec<_> = (0..MOST_EXPLANATIONS * 3).map(|_| ask()).collect();
    assert_eq!(running.socket("GET /live").0, 200);
    running.app.explain_slowly(false);
    assert_eq!(body(&running.socket("GET /explain?last=1").1)["asked_for"], 1, "there is room again");
    drop(asking);
    running.app.when_explaining(0);
    assert_eq!(running.app.explaining.lock().unwrap().most, MOST_EXPLANATIONS);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let running = Running::start();
    let large = format!("GET /live HTTP/1.1\r\nhost: localhost\r\nx-large: {}\r\n\r\n", "x".repeat(MOST_HEAD_BYTES));
    let many = format!("GET /live HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(MOST_HEADERS + 1));
    for head in [large, many] {
        let mut stream = TcpStream::connect(running.addresses.health.unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        // What is left unread at the close resets the connection, and the answer may go with it.
        match stream.write_all(head.as_bytes()).and_then(|()| stream.read_to_end(&mut answer)) {
            Ok(_) => assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer)),
            Err(error) => {
                assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}")
            }
        }
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"));
    }
    assert_eq!(running.health("GET /live").0, 200);
}

#[test]
fn only_what_is_named_is_bound_and_only_on_loopback() {
    let server = AdminServer::bind(None, &AdminConfig::default()).unwrap();
    assert_eq!(server.addresses(), &Addresses::default());
    let outside = AdminConfig { listen: Some("0.0.0.0:0".parse().unwrap()), socket: None };
    assert!(matches!(AdminServer::bind(None, &outside), Err(AdminError::NotLoopback { .. })));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let health = HealthConfig { listen: taken.local_addr().unwrap(), metrics: true };
    let error = AdminServer::bind(Some(&health), &AdminConfig::default()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("health listener: `{}`", health.listen)), "{error}");
}
