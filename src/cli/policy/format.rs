//! `portcullis policy format`: one way of writing policies, Cedar's own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cedar_policy_formatter::{Config, policies_str_to_pretty};
use clap::Args;

use super::below::entries;
use super::failed;
use crate::cli::FAILURE;

/// Options of `portcullis policy format`.
#[derive(Debug, Args)]
pub(super) struct FormatArgs {
    /// Files, or directories with *.cedar
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Change nothing, and fail if something would change
    #[arg(long)]
    check: bool,
}

/// Runs the command: 1 if a file is not Cedar, or would change under `--check`.
pub(super) fn run(arguments: &FormatArgs) -> ExitCode {
    let mut files = Vec::new();
    for path in &arguments.paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        if let Err(cause) = find(path, &mut files) {
            return failed(&cause);
        }
        // Beside one that has some it would pass for looked at.
        if files.len() == before {
            return failed(&format!("there are no *.cedar files in or below `{}`", path.display()));
        }
    }
    let mut code = ExitCode::SUCCESS;
    for file in &files {
        match format(file, arguments.check) {
            Ok(false) => {}
            Ok(true) if arguments.check => {
                println!("{} would change", file.display());
                code = ExitCode::from(FAILURE);
            }
            Ok(true) => println!("{}", file.display()),
            Err(cause) => {
                eprintln!("portcullis: `{}`: {cause}", file.display());
                code = ExitCode::from(FAILURE);
            }
        }
    }
    code
}

/// Whether the file is written otherwise than the formatter does; then it is rewritten, unless only `check`ed.
fn format(file: &Path, check: bool) -> Result<bool, String> {
    let text = std::fs::read_to_string(file).map_err(|cause| cause.to_string())?;
    if text.trim().is_empty() {
        return Ok(false);
    }
    // Comments are kept; the formatter parses its own result again and compares the policies.
    let pretty = policies_str_to_pretty(&text, &Config::default()).map_err(|cause| format!("{cause:#}"))?;
    let pretty = format!("{}\n", pretty.trim_end());
    if pretty == text {
        return Ok(false);
    }
    if !check {
        // Beside the file and then in its place: whoever reloads sees the old one or the new one.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut beside =
            tempfile::Builder::new().prefix(".format-").tempfile_in(folder).map_err(|cause| cause.to_string())?;
        std::io::Write::write_all(&mut beside, pretty.as_bytes()).map_err(|cause| cause.to_string())?;
        let permissions = std::fs::metadata(file).map_err(|cause| cause.to_string())?.permissions();
        beside.as_file().set_permissions(permissions).map_err(|cause| cause.to_string())?;
        beside.persist(file).map_err(|cause| cause.to_string())?;
    }
    Ok(true)
}

fn find(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    for entry in entries(directory)?.into_iter().filter(|entry| !entry.is_hidden) {
        if entry.is_folder {
            find(&entry.path, found)?;
        } else if entry.path.extension().is_some_and(|extension| extension == "cedar") {
            found.push(entry.path);
        }
    }
    Ok(())
}
