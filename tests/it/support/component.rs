//! The real programs of `tests/components` and of Debian: S3, gRPC and WebSocket both ways, curl, openssl, the AWS CLI.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Output, Process};

/// Where `tests/components/install.sh` puts what it installs.
pub(crate) fn components() -> PathBuf {
    // The same order as install.sh.
    let own = std::env::var_os("PORTCULLIS_COMPONENTS").map(PathBuf::from);
    let target = std::env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("components"));
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/components");
    own.or(target).unwrap_or(default)
}

/// The folder of executables among them.
pub(crate) fn venv_bin() -> PathBuf {
    let bin = components().join("venv/bin");
    assert!(bin.join("python").exists(), "{} is missing: run tests/components/install.sh", bin.display());
    bin
}

/// A program of `tests/components`.
pub(crate) fn python(script: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/components").join(script);
    let mut command = Command::new(venv_bin().join("python"));
    // A proxy of the environment would come between the client and the sidecar.
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("AWS_EC2_METADATA_DISABLED", "true").arg(script);
    command
}

/// A server that prints one JSON line when it listens.
async fn server(script: &str) -> (Process, Value) {
    let process = Process::spawn(script, &mut python(script));
    let announced = process.stdout.find("its port", |line| serde_json::from_str::<Value>(line).ok()).await;
    (process, announced)
}

fn loopback(announced: &Value) -> SocketAddr {
    let port = announced["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    SocketAddr::from(([127, 0, 0, 1], port.expect("the server prints its port")))
}

/// moto: an S3 server that checks signatures and IAM.
#[derive(Debug)]
pub(crate) struct S3Server {
    _process: Process,
    pub(crate) address: SocketAddr,
    /// Of a user who may do everything in S3.
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    /// Of a user who may only `s3:Get*`: what the store itself denies.
    pub(crate) reader_access_key: String,
    pub(crate) reader_secret_key: String,
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let (process, announced) = server("s3_server.py").await;
        let text = |name: &str| announced[name].as_str().expect("the server prints its keys").to_owned();
        Self {
            address: loopback(&announced),
            access_key: text("access_key"),
            secret_key: text("secret_key"),
            reader_access_key: text("reader_access_key"),
            reader_secret_key: text("reader_secret_key"),
            _process: process,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client with the keys of the user who may do everything.
    pub(crate) fn client(&self, endpoint: &str) -> S3Client {
        S3Client::new(endpoint, &self.access_key, &self.secret_key)
    }
}

/// boto3, told what to do: see `tests/components/s3_client.py` for the steps.
#[derive(Debug, Clone)]
pub(crate) struct S3Client {
    order: Value,
}

impl S3Client {
    /// Path style; `endpoint` is a URL.
    pub(crate) fn new(endpoint: &str, access_key: &str, secret_key: &str) -> Self {
        Self { order: json!({ "endpoint": endpoint, "access_key": access_key, "secret_key": secret_key, "steps": [] }) }
    }

    /// Buckets in the Host below `suffix`, which resolves to this machine for this client.
    pub(crate) fn virtual_host(mut self, suffix: &str) -> Self {
        self.order["addressing"] = json!("virtual");
        self.order["resolve"] = json!([suffix]);
        self
    }

    /// A botocore setting, such as `request_checksum_calculation`.
    pub(crate) fn config(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.order["config"][name] = value.into();
        self
    }

    pub(crate) fn step(mut self, call: &str, arguments: Value) -> Self {
        if let Some(steps) = self.order["steps"].as_array_mut() {
            steps.push(json!({ "call": call, "arguments": arguments }));
        }
        self
    }

    /// Runs the steps; one result each, in order.
    pub(crate) async fn run(self) -> Vec<Value> {
        let output = Process::run("boto3", &mut python("s3_client.py"), &self.order.to_string()).await;
        assert_eq!(output.code(), 0, "{output:#?}");
        output.json().as_array().cloned().unwrap_or_default()
    }
}

/// The AWS CLI. Names below `resolve` (separated by `,`) are this machine, and below them buckets are in the Host.
pub(crate) async fn aws(access_key: &str, secret_key: &str, resolve: &str, arguments: &[&str]) -> Output {
    let mut command = python("aws_cli.py");
    command.env("AWS_ACCESS_KEY_ID", access_key).env("AWS_SECRET_ACCESS_KEY", secret_key);
    command.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_MAX_ATTEMPTS", "1").env("AWS_PAGER", "");
    // No file of the person's own.
    let virtual_host = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/components/aws_virtual_host.ini");
    command.env("AWS_CONFIG_FILE", if resolve.is_empty() { Path::new("/dev/null") } else { &virtual_host });
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    Process::run("aws", command.arg(resolve).args(arguments), "").await
}

/// grpcio: an echo server of every streaming kind.
#[derive(Debug)]
pub(crate) struct GrpcServer {
    _process: Process,
    pub(crate) address: SocketAddr,
}

impl GrpcServer {
    pub(crate) async fn start() -> Self {
        let (process, announced) = server("grpc_server.py").await;
        Self { address: loopback(&announced), _process: process }
    }

    /// As `upstream` of an inbound listener.
    pub(crate) fn url(&self) -> String {
        format!("h2c://{}", self.address)
    }
}

/// Calls the echo service through `address`: see `tests/components/grpc_client.py` for kinds and result.
pub(crate) async fn grpc(address: SocketAddr, kind: &str, messages: &[&str]) -> Value {
    let mut command = python("grpc_client.py");
    let output = Process::run("grpc client", command.arg(address.to_string()).arg(kind).args(messages), "").await;
    assert_eq!(output.code(), 0, "{output:#?}");
    output.json()
}

/// A WebSocket echo server.
#[derive(Debug)]
pub(crate) struct WebSocketServer {
    _process: Process,
    pub(crate) address: SocketAddr,
}

impl WebSocketServer {
    pub(crate) async fn start() -> Self {
        let (process, announced) = server("websocket_server.py").await;
        Self { address: loopback(&announced), _process: process }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Connects to a WebSocket: see `tests/components/websocket_client.py` for arguments and result.
pub(crate) async fn websocket(arguments: &[&str]) -> Value {
    let output = Process::run("websocket client", python("websocket_client.py").args(arguments), "").await;
    assert_eq!(output.code(), 0, "{output:#?}");
    output.json()
}

/// curl, without the person's own settings, with a time limit, and quiet but for errors.
pub(crate) async fn curl(arguments: &[impl AsRef<OsStr>]) -> Output {
    let mut command = Command::new("curl");
    command.args(["--disable", "--silent", "--show-error", "--max-time", "25", "--noproxy", "*"]).args(arguments);
    Process::run("curl", &mut command, "").await
}

/// openssl; `input` is its standard input, which then closes.
pub(crate) async fn openssl(arguments: &[impl AsRef<OsStr>], input: &str) -> Output {
    Process::run("openssl", Command::new("openssl").args(arguments), input).await
}
