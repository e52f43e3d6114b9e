//! `portcullis policy bundle`: a policy directory as one signed file, for `policy.url`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use super::{SourceArgs, failed, loaded_with_warnings};
use crate::policy::{BundleKeys, Expiry, Manifest, PolicyBundle, PolicyGeneration, SigningKey, pack};

/// Options of `portcullis policy bundle`.
#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// The directory: *.cedar, entities.json or entities/*.json, further *.cedarschema
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The private key that signs it (PEM; Ed25519 or ECDSA P-256, not encrypted)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the archive goes; its signature goes to the same name with .sig after it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What it is called (`policy.bundle_name`)
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Grows with each bundle of the name, for example `git rev-list --count HEAD`: sidecars never go back
    #[arg(long, value_name = "NUMBER")]
    sequence: u64,
    /// From when on sidecars that do not have it take it no more, for example `date --utc --date '+30 days' +%FT%TZ`
    #[arg(long, value_name = "TIME", value_parser = Expiry::parse)]
    expires: Option<Expiry>,
    /// The configuration whose endpoints the policies are about
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Writes the bundle, unless its policies do not load.
pub(super) fn run(arguments: &BundleArgs) -> ExitCode {
    let source = SourceArgs { policies: Some(arguments.directory.clone()), config: arguments.config.clone() };
    let policies = match source.source().and_then(|source| loaded_with_warnings(&source)) {
        Ok(policies) => policies,
        Err(code) => return code,
    };
    match write(arguments, &policies) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(cause) => failed(&cause),
    }
}

fn write(arguments: &BundleArgs, policies: &PolicyGeneration) -> Result<String, String> {
    let manifest = Manifest::new(&arguments.name, arguments.sequence).map_err(|error| format!("the bundle {error}"))?;
    if let Some(expired) = arguments.expires.filter(|expiry| expiry.is_past(SystemTime::now())) {
        return Err(format!("a bundle that expired at {expired} would be taken by nobody"));
    }
    let manifest = Manifest { expires: arguments.expires, ..manifest };
    let key = SigningKey::read(&arguments.key).map_err(|error| error.to_string())?;
    let tar = pack(&arguments.directory, &manifest).map_err(|error| error.to_string())?;
    let signature = key.sign(&tar).map_err(|error| error.to_string())?;
    // What is written is what a sidecar takes: the same code says so.
    let bundle = PolicyBundle::open(&tar, &signature, &BundleKeys::from(key.public().clone()));
    let bundle = bundle.map_err(|error| error.to_string())?;
    if bundle.digest() != policies.digest() {
        return Err(format!("{} changed while it was read", arguments.directory.display()));
    }
    let mut beside = arguments.out.clone().into_os_string();
    beside.push(".sig");
    let beside = PathBuf::from(beside);
    for (path, bytes) in [(&beside, &signature), (&arguments.out, &tar)] {
        std::fs::write(path, bytes).map_err(|error| format!("`{}` cannot be written: {error}", path.display()))?;
    }
    Ok(format!(
        "{}: {manifest}{}, {}, {}\n{}: signed by {}",
        arguments.out.display(),
        arguments.expires.map(|expiry| format!(" until {expiry}")).unwrap_or_default(),
        match policies.len() {
            1 => "1 policy".to_owned(),
            several => format!("{several} policies"),
        },
        policies.digest(),
        beside.display(),
        key.public().fingerprint()
    ))
}
