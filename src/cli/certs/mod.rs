//! `portcullis certs`: a development CA, SVIDs from it, and what the rules say of any certificate.

mod folder;
pub(super) mod lifetime;
mod mint;
mod serve;
mod show;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use thiserror::Error;

use crate::identity::dev_ca::{DevCaError, JwtSignerError};
use crate::identity::{BundleError, SpiffeId, SpiffeIdError, TrustDomain};
use lifetime::parse_lifetime;

/// `portcullis certs`.
#[derive(Debug, Args)]
pub(super) struct CertsArgs {
    #[command(subcommand)]
    command: CertsCommand,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Make a development CA for each trust domain.
    Init(InitArgs),
    /// Issue an X.509-SVID for each SPIFFE ID, signed by the CA of its trust domain.
    Issue(IssueArgs),
    /// Make every CA and SVID that a file lists; what exists is kept.
    Mint(MintArgs),
    /// Serve a SPIFFE Workload API with SVIDs of the development CA. For development only.
    ///
    /// Whoever can connect to the socket gets the SVIDs, private keys included: it does not ask who calls. SVIDs are minted in memory, and
    /// new ones pushed at half their lifetime or on SIGHUP. JWT-SVIDs are signed by a key that is kept in FOLDER/TRUST-DOMAIN/jwt.key.
    /// The first line that it prints is the environment variable that tells workloads where it is.
    Serve(serve::ServeArgs),
    /// Judge certificates by every rule of the X.509-SVID standard: those of files, folders, servers and Workload APIs.
    Show(show::ShowArgs),
}

#[derive(Debug, Args)]
struct InitArgs {
    /// The trust domain; may be given several times.
    #[arg(long = "trust-domain", required = true, value_name = "NAME", value_parser = trust_domain)]
    trust_domains: Vec<TrustDomain>,
    /// Where the files go.
    #[arg(long, env = "PORTCULLIS_CERTS_DIR", default_value = "certs-dev", value_name = "FOLDER")]
    dir: PathBuf,
    /// How long the CA is valid.
    #[arg(long, default_value = "8760h", value_name = "DURATION", value_parser = parse_lifetime)]
    ca_lifetime: Duration,
    /// Overwrite files that exist. SVIDs of the old CA are no longer trusted then.
    #[arg(long)]
    force: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct IssueArgs {
    /// The workloads' IDs: spiffe://TRUST-DOMAIN/PATH.
    #[arg(required = true, value_name = "SPIFFE_ID", value_parser = workload_id)]
    ids: Vec<SpiffeId>,
    /// Where the CA is and the files go.
    #[arg(long, env = "PORTCULLIS_CERTS_DIR", default_value = "certs-dev", value_name = "FOLDER")]
    dir: PathBuf,
    /// How long an SVID is valid; never longer than its CA.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = parse_lifetime)]
    lifetime: Duration,
    /// A DNS name to add, for peers that ask for one (portcullis does not); may be given several times.
    #[arg(long = "dns", value_name = "NAME")]
    dns_names: Vec<String>,
    /// Overwrite files that exist.
    #[arg(long)]
    force: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
struct MintArgs {
    /// The list of trust domains and identities.
    #[arg(default_value = "certs-dev/identities.toml", value_name = "FILE")]
    file: PathBuf,
    /// Where the files go; the list's own folder unless given.
    #[arg(long, env = "PORTCULLIS_CERTS_DIR", value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Make everything anew.
    #[arg(long)]
    force: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// How a command reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Why a `certs` command did not do what it should.
#[derive(Debug, Error)]
pub(super) enum CertsError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A file is there already.
    #[error("`{}` exists already; `--force` overwrites it", path.display())]
    Exists { path: PathBuf },
    /// There is no CA for the trust domain.
    #[error("no CA for `{trust_domain}` in `{}`; make one with `portcullis certs init --dir {} --trust-domain {trust_domain}`", dir.display(), dir.display())]
    NoAuthority { trust_domain: String, dir: PathBuf },
    /// The CA cannot mint.
    #[error("CA of `{trust_domain}`: {source}")]
    Authority { trust_domain: String, source: DevCaError },
    /// The key that signs JWT-SVIDs cannot be used.
    #[error("key for JWT-SVIDs of `{trust_domain}`: {source}")]
    JwtSigner { trust_domain: String, source: JwtSignerError },
    /// Two SVIDs by one hint.
    #[error("the hint `{hint}` stands for two SVIDs")]
    Hint { hint: String },
    /// The Workload API cannot be served there.
    #[error("cannot serve the Workload API: {detail}")]
    Listen { detail: String },
    /// The list is not what it should be.
    #[error("`{}`: {detail}", path.display())]
    List { path: PathBuf, detail: String },
    /// Nothing in the file to judge.
    #[error("`{}` holds no certificate, neither PEM nor DER: {detail}", path.display())]
    NoCertificate { path: PathBuf, detail: String },
    /// A server presented nothing.
    #[error("`{target}`: {detail}")]
    Server { target: String, detail: String },
    /// Our own certificate cannot be presented.
    #[error("our own certificate: {detail}")]
    Own { detail: String },
    /// The bundle to verify against cannot be used.
    #[error("trust bundle `{}` {source}", path.display())]
    Bundle { path: PathBuf, source: BundleError },
    /// The report cannot be written.
    #[error("cannot write the report: {0}")]
    Report(#[from] io::Error),
}

/// Runs the command and reports to `out`; returns the exit code: 0, or 1 if `show` found a rule that is broken.
///
/// # Errors
/// The command failed; exit code 1.
pub(super) fn run(args: &CertsArgs, out: &mut dyn io::Write) -> Result<u8, CertsError> {
    match &args.command {
        CertsCommand::Init(args) => mint::init(args, out).map(|()| 0),
        CertsCommand::Issue(args) => mint::issue(args, out).map(|()| 0),
        CertsCommand::Mint(args) => mint::mint(args, out).map(|()| 0),
        CertsCommand::Serve(args) => serve::serve(args, out).map(|()| 0),
        CertsCommand::Show(args) => show::show(args, out),
    }
}

fn trust_domain(name: &str) -> Result<TrustDomain, SpiffeIdError> {
    TrustDomain::parse(name)
}

fn workload_id(uri: &str) -> Result<SpiffeId, String> {
    let id = SpiffeId::parse(uri).map_err(|error| error.to_string())?;
    match id.is_workload() {
        true => Ok(id),
        false => Err(format!("`{id}` has no path: it names a trust domain, not a workload")),
    }
}
