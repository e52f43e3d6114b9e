//! Sidecars as real processes, each with a folder of its own: configuration, SVID, bundles, policies, records.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{Ca, Output, Process, Records, Svid, eventually, eventually_so, get};

/// A policy that permits everything, for the side that a test is not about.
pub(crate) const ALLOW_ALL: &str = "@id(\"allow-all\")\npermit (principal, action, resource);\n";

/// A temporary folder and the CA of `pipeline.example`.
#[derive(Debug)]
pub(crate) struct World {
    folder: TempDir,
    pub(crate) ca: Ca,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("portcullis-it-").expect("the temporary folder is writable");
        Self { folder, ca: Ca::new("pipeline.example") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A folder below the world's, made.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        path
    }

    /// A file below the world's folder.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).expect("the temporary folder is writable");
        path
    }

    /// A sidecar of the workload `spiffe://pipeline.example/ns/test/sa/NAME`: nothing permitted, no listener yet.
    pub(crate) fn sidecar(&self, name: &str) -> SidecarPlan {
        SidecarPlan {
            directory: self.folder(name),
            name: name.to_owned(),
            svid: self.ca.issue(&format!("/ns/test/sa/{name}")),
            bundles: BTreeMap::from([(self.ca.trust_domain.clone(), self.ca.bundle())]),
            policies: BTreeMap::new(),
            listeners: Vec::new(),
            yaml: String::new(),
            identity: None,
            audit: None,
            is_deaf: false,
            policy: String::new(),
            doors: [String::new(), String::new()],
            arguments: Vec::new(),
            identity_keys: String::new(),
            environment: Vec::new(),
        }
    }

    /// The SPIFFE ID that [`sidecar`](Self::sidecar) gives to `name`.
    pub(crate) fn id(&self, name: &str) -> String {
        format!("spiffe://{}/ns/test/sa/{name}", self.ca.trust_domain)
    }

    /// Two sidecars before one upstream: `app` outbound, `service` inbound, both with a listener called `endpoint`.
    /// `policies` decide on the inbound side, the outbound side permits all.
    pub(crate) async fn pair(&self, protocol: &str, upstream: &str, policies: &str) -> Pair {
        self.pair_with(protocol, upstream, policies, "").await
    }

    /// The same with further YAML for both listeners.
    pub(crate) async fn pair_with(&self, protocol: &str, upstream: &str, policies: &str, options: &str) -> Pair {
        let inbound = self.sidecar("service").policies(policies);
        let inbound = inbound.inbound("endpoint", protocol, upstream, options).start().await;
        let outbound = self.sidecar("app").policies(ALLOW_ALL);
        let to = inbound.inbound("endpoint").to_string();
        let outbound = outbound.outbound("endpoint", protocol, &to, &self.id("service"), options).start().await;
        Pair { outbound, inbound }
    }
}

/// What [`World::pair`] starts.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) outbound: Sidecar,
    pub(crate) inbound: Sidecar,
}

impl Pair {
    /// Where the local app connects.
    pub(crate) fn address(&self) -> SocketAddr {
        self.outbound.outbound("endpoint")
    }

    /// Stops both and asserts that they exit 0.
    pub(crate) async fn stop(self) {
        self.outbound.stop().await;
        self.inbound.stop().await;
    }
}

/// A sidecar to be started.
#[derive(Debug)]
#[must_use]
pub(crate) struct SidecarPlan {
    directory: PathBuf,
    name: String,
    svid: Svid,
    bundles: BTreeMap<String, String>,
    policies: BTreeMap<String, String>,
    listeners: Vec<Listener>,
    yaml: String,
    identity: Option<String>,
    audit: Option<String>,
    /// Runs it without file events.
    is_deaf: bool,
    /// Further keys of `policy`.
    policy: String,
    /// Further keys of `health` and of `admin`.
    doors: [String; 2],
    arguments: Vec<String>,
    /// Further keys of `identity`.
    identity_keys: String,
    /// Variables of the environment.
    environment: Vec<(String, String)>,
}

#[derive(Debug)]
struct Listener {
    direction: &'static str,
    name: String,
    yaml: String,
}

impl SidecarPlan {
    /// `policies/test.cedar`.
    pub(crate) fn policies(self, cedar: &str) -> Self {
        self.policy_file("test.cedar", cedar)
    }

    /// `policies/entities.json`.
    pub(crate) fn entities(self, entities: &Value) -> Self {
        let text = entities.to_string();
        self.policy_file("entities.json", &text)
    }

    /// Another file of the policy folder.
    pub(crate) fn policy_file(mut self, name: &str, content: &str) -> Self {
        self.policies.insert(name.to_owned(), content.to_owned());
        self
    }

    /// Another SVID than the world's CA would issue.
    pub(crate) fn svid(mut self, svid: Svid) -> Self {
        self.svid = svid;
        self
    }

    /// A further bundle, or another one for a trust domain that has one.
    pub(crate) fn trust(mut self, trust_domain: &str, bundle: &str) -> Self {
        self.bundles.insert(trust_domain.to_owned(), bundle.to_owned());
        self
    }

    /// An inbound listener on a free port. `options` are further YAML lines, not indented.
    pub(crate) fn inbound(self, name: &str, protocol: &str, upstream: &str, options: &str) -> Self {
        self.listener("inbound", name, &format!("protocol: {protocol}\nupstream: {upstream}\n{options}"))
    }

    /// An outbound listener on a free loopback port. `upstream` is `HOST:PORT`, `peer` as the file writes it.
    pub(crate) fn outbound(self, name: &str, protocol: &str, upstream: &str, peer: &str, options: &str) -> Self {
        let yaml = format!("protocol: {protocol}\nupstream: {upstream}\npeer: {peer}\n{options}");
        self.listener("outbound", name, &yaml)
    }

    fn listener(mut self, direction: &'static str, name: &str, yaml: &str) -> Self {
        self.listeners.push(Listener { direction, name: name.to_owned(), yaml: yaml.to_owned() });
        self
    }

    /// Further top-level YAML, such as `limits:`.
    pub(crate) fn yaml(mut self, yaml: &str) -> Self {
        self.yaml.push_str(yaml.trim_end());
        self.yaml.push('\n');
        self
    }

    /// The `audit` section, in place of a file in the sidecar's folder.
    pub(crate) fn audit(mut self, yaml: &str) -> Self {
        self.audit = Some(yaml.to_owned());
        self
    }

    /// The `identity` section, in place of the files in the sidecar's folder. `DIR` stands for the folder.
    pub(crate) fn identity(mut self, yaml: &str) -> Self {
        self.identity = Some(yaml.to_owned());
        self
    }

    /// Runs it where the system grants no watch for file events, as if others had used them up.
    pub(crate) fn without_file_events(mut self) -> Self {
        self.is_deaf = true;
        self
    }

    /// Further YAML lines of `policy`.
    pub(crate) fn policy_yaml(mut self, yaml: &str) -> Self {
        self.policy.extend(yaml.lines().map(|line| format!("  {line}\n")));
        self
    }

    /// Further YAML lines of `health` and of `admin`.
    pub(crate) fn doors(mut self, health: &str, admin: &str) -> Self {
        self.doors = [health, admin].map(|yaml| yaml.lines().map(|line| format!("  {line}\n")).collect());
        self
    }

    /// Further YAML lines of `identity`.
    pub(crate) fn identity_keys(mut self, yaml: &str) -> Self {
        yaml.lines().for_each(|line| self.identity_keys.push_str(&format!("  {line}\n")));
        self
    }

    /// A variable of the process' environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Further arguments of `portcullis run`.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Writes the folder and starts the process; returns when it is ready.
    pub(crate) async fn start(self) -> Sidecar {
        let mut sidecar = self.spawn();
        sidecar.listening().await;
        let health = sidecar.health();
        // Ready is a state, not an event: asked until it is so.
        eventually_so("a sidecar that is ready", async || {
            let answer = get(health, "/ready").await;
            if answer.status.is_success() { Ok(()) } else { Err((sidecar.plan.name.clone(), answer)) }
        })
        .await;
        sidecar
    }

    /// Writes the folder and starts the process, without waiting for anything.
    pub(crate) fn spawn(self) -> Sidecar {
        self.write();
        self.launch()
    }

    fn launch(self) -> Sidecar {
        let process = Process::spawn(&self.name, &mut self.command("run"));
        let records = Records::of(&self.directory.join("audit.jsonl"));
        Sidecar { process, addresses: BTreeMap::new(), records, plan: self }
    }

    /// The same with one file of the folder missing.
    pub(crate) fn spawn_without(self, missing: &str) -> Sidecar {
        self.write();
        fs::remove_file(self.directory.join(missing)).expect("the file was written");
        self.launch()
    }

    /// Writes the folder and runs `portcullis run` to its end, where a test expects it to refuse.
    pub(crate) async fn run_to_end(self) -> Output {
        self.write();
        Process::run(&self.name, &mut self.command("run"), "").await
    }

    /// Writes the folder and runs `portcullis check` on it.
    pub(crate) async fn check(self) -> Output {
        self.write();
        Process::run(&self.name, &mut self.command("check"), "").await
    }

    /// Writes the folder and runs `portcullis doctor` on it.
    pub(crate) async fn doctor(self) -> Output {
        self.write();
        Process::run(&self.name, &mut self.command("doctor"), "").await
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = if self.is_deaf { deaf_portcullis() } else { portcullis() };
        command.current_dir(&self.directory).args([subcommand, "--config", "portcullis.yaml"]).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn write(&self) {
        let write = |name: &str, content: &str| {
            fs::write(self.directory.join(name), content).expect("the temporary folder is writable");
        };
        write("portcullis.yaml", &self.config());
        write("svid.pem", &self.svid.chain_pem());
        write("svid.key", &self.svid.key_pem());
        for (trust_domain, bundle) in &self.bundles {
            write(&format!("{trust_domain}.pem"), bundle);
        }
        fs::create_dir_all(self.directory.join("policies")).expect("the temporary folder is writable");
        for (name, content) in &self.policies {
            if let Some((folder, _)) = name.split_once('/') {
                let folder = self.directory.join("policies").join(folder);
                fs::create_dir_all(folder).expect("the temporary folder is writable");
            }
            write(&format!("policies/{name}"), content);
        }
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> String {
        let at = self.directory.display();
        let mut yaml = String::from("identity:\n");
        match &self.identity {
            Some(identity) => {
                for line in identity.replace("DIR", &at.to_string()).lines() {
                    let _ = writeln!(yaml, "  {line}");
                }
            }
            None => {
                let own = format!("  source: files\n  certificate: {at}/svid.pem\n  private_key: {at}/svid.key\n");
                yaml += &(own + "  trust_bundles:\n");
                for trust_domain in self.bundles.keys() {
                    let _ = writeln!(yaml, "    {trust_domain}: {at}/{trust_domain}.pem");
                }
            }
        }
        yaml += &self.identity_keys;
        yaml += "policy:\n";
        if !self.policy.lines().any(|line| line.trim_start().starts_with("url:")) {
            let _ = writeln!(yaml, "  directory: {at}/policies");
        }
        yaml += &self.policy;
        for direction in ["inbound", "outbound"] {
            let listeners: Vec<_> = self.listeners.iter().filter(|listener| listener.direction == direction).collect();
            if !listeners.is_empty() {
                let _ = writeln!(yaml, "{direction}:");
            }
            for listener in listeners {
                let _ = writeln!(yaml, "  - name: {}", listener.name);
                if !listener.yaml.lines().any(|line| line.starts_with("listen:")) {
                    let _ = writeln!(yaml, "    listen: 127.0.0.1:0");
                }
                for line in listener.yaml.lines() {
                    let _ = writeln!(yaml, "    {line}");
                }
            }
        }
        let audit = self.audit.clone().unwrap_or_else(|| format!("sink: file\npath: {at}/audit.jsonl"));
        let _ = writeln!(yaml, "audit:\n  {}", audit.replace('\n', "\n  "));
        let [health, admin] = &self.doors;
        let _ = write!(yaml, "health:\n  listen: 127.0.0.1:0\n{health}admin:\n  listen: 127.0.0.1:0\n{admin}");
        yaml + "log:\n  format: json\n" + &self.yaml
    }
}

/// A running sidecar.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) process: Process,
    pub(crate) records: Records,
    /// By (direction, name); `health` and `admin` have the direction `""`.
    addresses: BTreeMap<(String, String), String>,
    plan: SidecarPlan,
}

impl Sidecar {
    /// Waits until it has said where every listener, `health` and `admin` listen.
    pub(crate) async fn listening(&mut self) {
        let mut wanted: Vec<(String, String)> =
            self.plan.listeners.iter().map(|of| (of.direction.to_owned(), of.name.clone())).collect();
        wanted.extend([(String::new(), "health".to_owned()), (String::new(), "admin".to_owned())]);
        let found = &mut self.addresses;
        let what = format!("{} to listen", self.plan.name);
        let all = self.process.stderr.find(&what, |line| {
            if let Some((key, address)) = listening_line(line) {
                found.insert(key, address);
            }
            wanted.iter().all(|key| found.contains_key(key)).then_some(())
        });
        all.await;
    }

    pub(crate) fn inbound(&self, name: &str) -> SocketAddr {
        self.address("inbound", name)
    }

    pub(crate) fn outbound(&self, name: &str) -> SocketAddr {
        self.address("outbound", name)
    }

    pub(crate) fn health(&self) -> SocketAddr {
        self.address("", "health")
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.address("", "admin")
    }

    fn address(&self, direction: &str, name: &str) -> SocketAddr {
        let address = self.addresses.get(&(direction.to_owned(), name.to_owned()));
        let address = address.unwrap_or_else(|| panic!("no {direction} listener `{name}` in {:?}", self.addresses));
        address.parse().unwrap_or_else(|error| panic!("`{address}`: {error}"))
    }

    /// Its folder: `portcullis.yaml`, `svid.pem`, `svid.key`, `TRUST_DOMAIN.pem`, `policies/`, `audit.jsonl`.
    pub(crate) fn directory(&self) -> &Path {
        &self.plan.directory
    }

    /// Puts a file in place of another at once, as a careful operator does.
    pub(crate) fn replace(&self, name: &str, content: &str) {
        let (path, next) = (self.directory().join(name), self.directory().join(".next"));
        fs::write(&next, content).and_then(|()| fs::rename(&next, path)).expect("the folder is writable");
    }

    /// Puts another SVID in place. The two files change one after the other: the sidecar has to cope.
    pub(crate) fn replace_svid(&self, svid: &Svid) {
        self.replace("svid.key", &svid.key_pem());
        self.replace("svid.pem", &svid.chain_pem());
    }

    /// `/status` of the admin listener.
    pub(crate) async fn status(&self) -> Value {
        let answer = get(self.admin(), "/status").await;
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        get(self.health(), "/metrics").await.text()
    }

    /// The sum of a metric's series that have all of these `label="value"` texts.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics().await;
        let series = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        let series = series.filter(|line| labels.iter().all(|label| line.contains(label)));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The same, once `wanted` holds of it.
    pub(crate) async fn metric_with(&self, name: &str, labels: &[&str], wanted: impl Fn(f64) -> bool) -> f64 {
        eventually_so(name, async || Some(self.metric(name, labels).await).filter(|value| wanted(*value)).ok_or(labels))
            .await
    }

    /// Waits until `/status` satisfies `wanted`, and returns it.
    pub(crate) async fn status_with(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually_so(what, async || {
            let status = self.status().await;
            if wanted(&status) { Ok(status) } else { Err(status) }
        })
        .await
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.stderr.so_far()
    }

    /// Waits for a log line that holds `text`.
    pub(crate) async fn logged(&self, text: &str) -> String {
        let what = format!("`{text}` in the log of {}", self.plan.name);
        self.process.stderr.find(&what, |line| line.contains(text).then(|| line.to_owned())).await
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Drains by SIGTERM and asserts exit code 0.
    pub(crate) async fn stop(self) -> Records {
        self.process.signal("TERM");
        self.stopped().await
    }

    /// Waits for the end of one that was told to stop, and asserts exit code 0.
    pub(crate) async fn stopped(mut self) -> Records {
        let status = self.process.exited().await;
        assert!(status.success(), "{} ended with {status}:\n{}", self.plan.name, self.log().join("\n"));
        self.records.clone()
    }

    /// Ends it as a crash would, and waits for its end.
    pub(crate) async fn kill(mut self) -> Records {
        self.process.signal("KILL");
        eventually("the end of a killed process", || (!self.process.is_running()).then_some(())).await;
        self.records.clone()
    }
}

/// The binary under test, without the environment's own settings of it.
pub(crate) fn portcullis() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PORTCULLIS_")) {
        command.env_remove(name);
    }
    command.env_remove("SPIFFE_ENDPOINT_SOCKET");
    command
}

/// The same in a user namespace of its own, which grants no inotify instance.
fn deaf_portcullis() -> Command {
    let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
    let mut command = Command::new("unshare");
    let program = portcullis();
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Reads `{"message":"listening","listener":NAME,"direction":…,"address":…}`, fields at the top or under `fields`.
fn listening_line(line: &str) -> Option<((String, String), String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    if fields["message"] != "listening" {
        return None;
    }
    let text = |name: &str| fields[name].as_str().map(str::to_owned);
    let direction = text("direction").filter(|direction| ["inbound", "outbound"].contains(&direction.as_str()));
    Some(((direction.unwrap_or_default(), text("listener")?), text("address")?))
}

#[test]
fn a_listening_line_names_listener_direction_and_address() {
    let line =
        r#"{"level":"INFO","message":"listening","listener":"lake","direction":"inbound","address":"127.0.0.1:1"}"#;
    let key = ("inbound".to_owned(), "lake".to_owned());
    assert_eq!(listening_line(line), Some((key, "127.0.0.1:1".to_owned())));
    let nested = r#"{"fields":{"message":"listening","listener":"admin","address":"127.0.0.1:2"}}"#;
    let key = (String::new(), "admin".to_owned());
    assert_eq!(listening_line(nested), Some((key, "127.0.0.1:2".to_owned())));
}
