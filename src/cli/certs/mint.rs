//! `certs init`, `certs issue` and `certs mint`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::folder::{FileSet, Folder, Readers, read};
use super::lifetime::{moment, parse_lifetime, roughly};
use super::{CertsError, InitArgs, IssueArgs, MintArgs, Output, workload_id};
use crate::identity::dev_ca::{DevCa, DevCaError, San};
use crate::identity::{CertificateDescription, SpiffeId, TrustDomain};

/// One line of the report.
#[derive(Debug, Serialize)]
struct Made {
    /// The trust domain of a CA, or a workload's ID.
    id: String,
    kind: &'static str,
    folder: PathBuf,
    /// `made`; or, if it was there, `kept`, `expired` or `broken`.
    result: &'static str,
    not_after: String,
    #[serde(skip)]
    left: Option<Duration>,
}

pub(super) fn init(args: &InitArgs, out: &mut dyn Write) -> Result<(), CertsError> {
    let folder = Folder(&args.dir);
    let mut made = Vec::new();
    for trust_domain in &args.trust_domains {
        made.push(make_authority(&folder, trust_domain, args.ca_lifetime, args.force)?);
    }
    report(&made, args.output, out)
}

pub(super) fn issue(args: &IssueArgs, out: &mut dyn Write) -> Result<(), CertsError> {
    let folder = Folder(&args.dir);
    let mut made = Vec::new();
    for id in &args.ids {
        made.push(make_svid(&folder, id, args.lifetime, &args.dns_names, args.force)?);
    }
    report(&made, args.output, out)
}

/// `identities.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// A CA is made for each of these.
    trust_domains: Vec<String>,
    #[serde(default = "ca_lifetime")]
    ca_lifetime: String,
    /// Of each SVID that does not say otherwise.
    #[serde(default = "lifetime")]
    lifetime: String,
    #[serde(default, rename = "identity")]
    identities: Vec<Identity>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    id: String,
    lifetime: Option<String>,
    #[serde(default)]
    dns: Vec<String>,
    /// What `certs serve --all` says it is for.
    #[serde(default)]
    hint: String,
}

impl List {
    /// The list, and the workloads that it names, each with its hint.
    pub(super) fn read(file: &Path) -> Result<(Self, Vec<(SpiffeId, String)>), CertsError> {
        let wrong = |detail: String| CertsError::List { path: file.to_owned(), detail };
        let list: Self = toml::from_str(&read(file)?).map_err(|error| wrong(error.to_string()))?;
        let workload = |identity: &Identity| Ok((workload_id(&identity.id)?, identity.hint.clone()));
        let workloads: Result<_, String> = list.identities.iter().map(workload).collect();
        let workloads = workloads.map_err(wrong)?;
        Ok((list, workloads))
    }
}

fn ca_lifetime() -> String {
    "8760h".to_owned()
}

fn lifetime() -> String {
    "24h".to_owned()
}

pub(super) fn mint(args: &MintArgs, out: &mut dyn Write) -> Result<(), CertsError> {
    let wrong = |detail: String| CertsError::List { path: args.file.clone(), detail };
    let (list, workloads) = List::read(&args.file)?;
    let dir = match (&args.dir, args.file.parent()) {
        (Some(dir), _) => dir.as_path(),
        (None, Some(parent)) if !parent.as_os_str().is_empty() => parent,
        (None, _) => Path::new("."),
    };
    let folder = Folder(dir);
    let parse = |text: &str| parse_lifetime(text).map_err(wrong);
    let (ca_lifetime, lifetime) = (parse(&list.ca_lifetime)?, parse(&list.lifetime)?);

    let mut made = Vec::new();
    for name in &list.trust_domains {
        let trust_domain = TrustDomain::parse(name).map_err(|error| wrong(format!("`{name}`: {error}")))?;
        let result = make_authority(&folder, &trust_domain, ca_lifetime, args.force);
        made.push(or_kept(result, "ca", name.clone())?);
    }
    for (identity, (id, _)) in list.identities.iter().zip(&workloads) {
        let lifetime = identity.lifetime.as_deref().map_or(Ok(lifetime), parse)?;
        let result = make_svid(&folder, id, lifetime, &identity.dns, args.force);
        made.push(or_kept(result, "svid", id.to_string())?);
    }
    report(&made, args.output, out)
}

/// What is there already stays as it is; the report says if its time is over.
fn or_kept(result: Result<Made, CertsError>, kind: &'static str, id: String) -> Result<Made, CertsError> {
    let Err(CertsError::Exists { path }) = result else { return result };
    let folder = path.parent().unwrap_or(&path).to_owned();
    let certificate = folder.join(if kind == "ca" { "ca.pem" } else { "svid.pem" });
    let der = CertificateDer::from_pem_slice(read(&certificate).unwrap_or_default().as_bytes()).ok();
    let kept = der.and_then(|der| CertificateDescription::parse(&der).ok()).map(|kept| kept.not_after);
    let result = match kept {
        Some(not_after) if not_after < SystemTime::now() => "expired",
        Some(_) => "kept",
        None => "broken",
    };
    Ok(Made { result, ..made(kind, id, folder, kept.unwrap_or(SystemTime::UNIX_EPOCH)) })
}

fn make_authority(
    folder: &Folder<'_>,
    trust_domain: &TrustDomain,
    lifetime: Duration,
    force: bool,
) -> Result<Made, CertsError> {
    let failed = |source| CertsError::Authority { trust_domain: trust_domain.to_string(), source };
    let ca = DevCa::new(trust_domain, lifetime).map_err(failed)?;
    let place = folder.authority(trust_domain.as_str());
    FileSet::new(place.clone())
        .with("ca.key", Readers::Owner, ca.key_pem())
        .with("ca.pem", Readers::All, ca.certificate_pem())
        .with("bundle.pem", Readers::All, ca.certificate_pem())
        .write(force)?;
    Ok(made("ca", trust_domain.to_string(), place, ca.not_after().map_err(failed)?))
}

fn make_svid(
    folder: &Folder<'_>,
    id: &SpiffeId,
    lifetime: Duration,
    dns_names: &[String],
    force: bool,
) -> Result<Made, CertsError> {
    let failed = |source| CertsError::Authority { trust_domain: id.trust_domain().to_owned(), source };
    let ca = authority(folder, id.trust_domain())?;
    let mut params = ca.params_for(id, lifetime).map_err(failed)?;
    params.names.extend(dns_names.iter().cloned().map(San::Dns));
    let minted = ca.issue_with(&params).map_err(failed)?;
    let place = folder.svid(id);
    FileSet::new(place.clone())
        .with("svid.key", Readers::Owner, minted.key_pem)
        .with("svid.pem", Readers::All, minted.chain_pem)
        .with("bundle.pem", Readers::All, ca.certificate_pem())
        .write(force)?;
    Ok(made("svid", id.to_string(), place, params.not_after))
}

pub(super) fn authority(folder: &Folder<'_>, trust_domain: &str) -> Result<DevCa, CertsError> {
    let place = folder.authority(trust_domain);
    if !place.join("ca.pem").exists() {
        return Err(CertsError::NoAuthority { trust_domain: trust_domain.to_owned(), dir: folder.0.to_owned() });
    }
    let failed = |source: DevCaError| CertsError::Authority { trust_domain: trust_domain.to_owned(), source };
    DevCa::from_pem(&read(&place.join("ca.pem"))?, &read(&place.join("ca.key"))?).map_err(failed)
}

fn made(kind: &'static str, id: String, folder: PathBuf, not_after: SystemTime) -> Made {
    let left = not_after.duration_since(SystemTime::now()).ok();
    Made { id, kind, folder, result: "made", not_after: moment(not_after), left }
}

fn report(made: &[Made], output: Output, out: &mut dyn Write) -> Result<(), CertsError> {
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut *out, made).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    let width = made.iter().map(|made| made.id.len()).max().unwrap_or(0);
    for Made { id, kind, folder, result, left, .. } in made {
        let left = left.map(|left| format!("  valid {}", roughly(left))).unwrap_or_default();
        writeln!(out, "{result:<7}  {kind:<4}  {id:<width$}  {}{left}", folder.display())?;
    }
    if made.iter().any(|made| matches!(made.result, "expired" | "broken")) {
        writeln!(out, "what is expired or broken is made anew with --force")?;
    }
    Ok(())
}
