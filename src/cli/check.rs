//! `portcullis check`: everything that would fail at start, without starting.

use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::overrides::ConfigArgs;
use super::{FAILURE, colour};
use crate::admin::AdminServer;
use crate::app::tokens::{KEYLESS, key_files, keyless};
use crate::app::{identity_store, policies_at_hand, policy_source};
use crate::config::{
    AuditSinkConfig, Config, Direction, IdentitySourceConfig, PasswordSource, PolicyOrigin, ProtocolConfig, RoleConfig,
    UpstreamCa, UpstreamTls,
};
use crate::identity::{JwksFile, OnExpiredCrl, TrustDomain, X509Source as _};
use crate::listener::Bound;
use crate::policy::{BundleKeys, PolicyGeneration};

/// Options of `portcullis check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Goes through the same steps as a start, and says how each went.
pub(super) fn run(arguments: &CheckArgs) -> ExitCode {
    let config = match Config::load(&arguments.config.config, &arguments.config.overrides()) {
        Ok(config) => config,
        Err(errors) => {
            eprint!("{}", errors.render(colour()));
            return ExitCode::from(FAILURE);
        }
    };
    let mut report = Report::default();
    report.good("configuration", &count(config.listeners.len(), "listener"));
    for option in &config.unsafe_options {
        report.notice("configuration", &format!("`{option}` takes a protection away"));
    }
    identity(&config, &mut report);
    tokens(&config, &mut report);
    let invalid_policy = !policies(&config, &mut report);
    listeners(&config, &mut report);
    databases(&config, &mut report);
    admin(&config, &mut report);
    audit(&config, &mut report);
    match (report.failed, invalid_policy) {
        (_, true) => ExitCode::from(super::policy::INVALID_POLICY),
        (true, false) => ExitCode::from(FAILURE),
        (false, false) => ExitCode::SUCCESS,
    }
}

#[derive(Debug, Default)]
struct Report {
    failed: bool,
}

impl Report {
    fn good(&self, what: &str, how: &str) {
        println!("ok    {what:<14} {how}");
    }

    fn notice(&self, what: &str, how: &str) {
        println!("note  {what:<14} {how}");
    }

    fn bad(&mut self, what: &str, why: &str) {
        self.failed = true;
        println!("FAIL  {what:<14} {why}");
    }
}

fn tokens(config: &Config, report: &mut Report) {
    for (issuer, path) in key_files(config) {
        let file = JwksFile::at(path);
        match file.reload() {
            Ok(_) => {
                let keys = file.current().map_or(0, |keys| keys.len());
                report.good("tokens", &format!("{} of `{issuer}`", count(keys, "key")));
            }
            Err(error) => report.bad("tokens", &error.to_string()),
        }
    }
}

fn identity(config: &Config, report: &mut Report) {
    let (store, files) = identity_store(config);
    match files.reload() {
        Ok(_) => {}
        Err(error) if error.is_missing_file() => {
            return report.bad("identity", &format!("{error}: `portcullis run` would wait for it"));
        }
        Err(error) => return report.bad("identity", &error.to_string()),
    }
    if let IdentitySourceConfig::WorkloadApi { address, .. } = &config.identity.source {
        return report.notice(
            "identity",
            &format!("comes from the Workload API at `{address}`, which is not asked here: `portcullis doctor` does"),
        );
    }
    let Some(own) = store.current() else { return report.bad("identity", "nothing was loaded") };
    match own.svid.not_after().duration_since(SystemTime::now()) {
        Ok(left) => report.good("identity", &format!("{} expires in {}", own.svid.id(), roughly(left.as_secs()))),
        Err(_past) => report.bad("identity", &format!("{} has expired", own.svid.id())),
    }
    if let IdentitySourceConfig::Files { private_key, .. } = &config.identity.source
        && everybody_reads(private_key)
    {
        let key = private_key.display();
        report.notice(
            "identity",
            &format!("everybody on this machine may read `{key}`: chmod o-rwx, and issue a new one"),
        );
    }
    for bundle in own.bundles.iter() {
        report.good("trust", &format!("{}: {}", bundle.trust_domain(), count(bundle.anchors().len(), "root")));
        for crl in bundle.crls() {
            let revoked = count(crl.entries(), "revoked certificate");
            let list = format!("{}: list of {} with {revoked}", bundle.trust_domain(), crl.issuer());
            match (SystemTime::now().duration_since(crl.next_update()), config.identity.crl.on_expired) {
                (Err(_not_yet), _) => report.good("trust", &list),
                (Ok(since), OnExpiredCrl::Deny) => {
                    let since = roughly(since.as_secs());
                    report.notice(
                        "trust",
                        &format!("{list}, expired {since} ago: everybody that it is about is refused"),
                    );
                }
                (Ok(since), OnExpiredCrl::Allow) => {
                    let since = roughly(since.as_secs());
                    report.notice("trust", &format!("{list}, expired {since} ago: who was revoked since is not known"));
                }
            }
        }
    }
    for trust_domain in keyless(config, &own.bundles) {
        report.notice("tokens", &format!("{trust_domain}: {} ({})", KEYLESS.0, KEYLESS.1));
    }
    // Of a fetched bundle nothing is known here.
    let has_bundle =
        |of: &TrustDomain| own.bundles.bundle(of.as_str()).is_some() || config.identity.federation.contains_key(of);
    for trust_domain in config.identity.crl.files.keys().filter(|of| !has_bundle(of)) {
        report.notice("trust", &format!("{trust_domain}: its revocation lists have no effect, it has no bundle"));
    }
    for fault in own.trust_faults() {
        report.notice("trust", &fault);
    }
    for (trust_domain, federation) in &config.identity.federation {
        report.notice(
            "trust",
            &format!(
                "{trust_domain}: fetched from {}, which is not asked here: `portcullis doctor` does",
                federation.endpoint_url
            ),
        );
    }
}

fn everybody_reads(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

fn policies(config: &Config, report: &mut Report) -> bool {
    let source = match &config.policy.origin {
        PolicyOrigin::Directory(_) => policy_source(config),
        PolicyOrigin::Url(bundles) => {
            match BundleKeys::read(&bundles.public_keys) {
                Ok(keys) => report.good("policy", &count(keys.len(), "public key")),
                Err(error) => report.bad("policy", &error.to_string()),
            }
            report.notice("policy", "comes from `policy.url`, which is not asked here: `portcullis doctor` does");
            match policies_at_hand(config) {
                Ok(source) => source,
                Err(error) => {
                    report.notice("policy", &format!("{error}: without the server everything would be denied"));
                    return true;
                }
            }
        }
    };
    if let Some(bundle) = &source.bundle {
        let manifest = bundle.manifest();
        report.good("policy", &format!("bundle on disk is `{manifest}`"));
        if let Some(expired) = manifest.expires.filter(|expiry| expiry.is_past(SystemTime::now())) {
            report.notice(
                "policy",
                &format!("it expired at {expired}: it would decide, and no other sidecar takes it any more"),
            );
        }
    }
    match PolicyGeneration::load(&source, 1) {
        Ok(generation) => {
            let policies = match generation.len() {
                1 => "1 policy".to_owned(),
                several => format!("{several} policies"),
            };
            report.good("policy", &format!("{}, digest {}", policies, generation.digest()));
            for warning in generation.warnings() {
                report.notice("policy", &warning.advised_line());
            }
            for inactive in generation.inactive() {
                report.notice(
                    "policy",
                    &format!("`{inactive}` is about another sidecar's endpoint, so it is inactive here"),
                );
            }
            true
        }
        Err(errors) => {
            report.bad("policy", &format!("in {}", source.directory.display()));
            eprint!("{}", errors.render(colour()));
            false
        }
    }
}

/// Binds each address for a moment: what another process holds is found now.
fn listeners(config: &Config, report: &mut Report) {
    for listener in &config.listeners {
        let name = format!("{} {}", listener.direction.as_str(), listener.name);
        if let crate::config::ListenAddress::Unix { path, .. } = &listener.listen {
            // Binding would replace the socket of a sidecar that runs.
            let folder = path.parent().is_some_and(std::path::Path::is_dir);
            if folder {
                report.good("listener", &format!("{name} on unix:{}", path.display()));
            } else {
                report.bad("listener", &format!("{name}: folder of `{}` does not exist", path.display()));
            }
            continue;
        }
        match Bound::bind(&listener.listen) {
            Ok(bound) => report.good("listener", &format!("{name} on {}", bound.address())),
            Err(error) => report.bad("listener", &format!("{name}: {error}")),
        }
    }
}

/// What PostgreSQL listeners need besides: files that can be read, programs that are there. None of them is run.
fn databases(config: &Config, report: &mut Report) {
    for listener in &config.listeners {
        let ProtocolConfig::Postgres(postgres) = &listener.protocol else { continue };
        let name = format!("{} {}", listener.direction.as_str(), listener.name);
        if listener.direction == Direction::Inbound
            && postgres.role == RoleConfig::Passthrough
            && postgres.catalog.is_none()
        {
            let message =
                "`role: passthrough` without `catalog`: the server has to trust the sidecar's own connections";
            report.notice("catalog", &format!("{name}: {message}"));
        }
        let catalog = postgres.catalog.as_ref().and_then(|catalog| catalog.password.as_ref());
        for source in postgres.password.iter().chain(catalog) {
            match source {
                PasswordSource::File(path) => match std::fs::read_to_string(path) {
                    Ok(text) if text.lines().next().is_none_or(str::is_empty) => {
                        report.bad("password", &format!("{name}: first line of `{}` is empty", path.display()));
                    }
                    Ok(_) => report.good("password", &format!("{name}: {}", path.display())),
                    Err(error) => report.bad("password", &format!("{name}: `{}`: {error}", path.display())),
                },
                PasswordSource::Command(command) => {
                    let program = command.first().map(String::as_str).unwrap_or_default();
                    match is_found(program) {
                        true => report.good("password", &format!("{name}: asked of `{program}`")),
                        false => report.bad("password", &format!("{name}: program `{program}` is not found")),
                    }
                }
            }
        }
        if let UpstreamTls::Request(UpstreamCa::File(path)) | UpstreamTls::Direct(UpstreamCa::File(path)) =
            &postgres.upstream_tls
        {
            pem::<CertificateDer<'_>>(report, &name, "upstream_ca", path);
        }
        if let Some((certificate, key)) = &postgres.local_certificate {
            pem::<CertificateDer<'_>>(report, &name, "local_certificate", certificate);
            pem::<PrivateKeyDer<'_>>(report, &name, "local_private_key", key);
        }
    }
}

/// Whether a program is at this path, or by this name in one of PATH's folders.
fn is_found(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Whether a file holds at least one of what it is to hold, and nothing broken.
fn pem<T: PemObject>(report: &mut Report, name: &str, key: &str, path: &Path) {
    let read = T::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<T>, _>>);
    match read {
        Ok(objects) if objects.is_empty() => {
            report.bad("tls", &format!("{name}: `{}` of `{key}` has no PEM block for it", path.display()));
        }
        Ok(_) => report.good("tls", &format!("{name}: `{key}` {}", path.display())),
        Err(error) => report.bad("tls", &format!("{name}: `{}` of `{key}`: {error}", path.display())),
    }
}

/// Binds health, admin and its socket for a moment too.
fn admin(config: &Config, report: &mut Report) {
    match AdminServer::bind(config.health.as_ref(), &config.admin) {
        Ok(bound) => {
            let addresses = bound.addresses();
            let tcp = [("health", addresses.health), ("admin", addresses.listen)];
            for (door, address) in tcp.iter().filter_map(|(door, address)| Some((door, (*address)?))) {
                report.good("listener", &format!("{door} on {address}"));
            }
            if let Some(socket) = &addresses.socket {
                report.good("listener", &format!("admin on unix:{}", socket.display()));
            }
        }
        Err(error) => report.bad("listener", &error.to_string()),
    }
}

fn audit(config: &Config, report: &mut Report) {
    match &config.audit.sink {
        AuditSinkConfig::Stdout => report.good("audit", "standard output"),
        AuditSinkConfig::File(path) => {
            let existed = path.exists();
            match OpenOptions::new().append(true).create(true).open(path) {
                Ok(_file) => {
                    if !existed {
                        let _ = std::fs::remove_file(path);
                    }
                    report.good("audit", &path.display().to_string());
                }
                Err(error) => report.bad("audit", &format!("`{}`: {error}", path.display())),
            }
        }
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn roughly(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
