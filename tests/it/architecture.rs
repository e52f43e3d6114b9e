//! The modules form a DAG, in the order in which a request walks through them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each row may name only rows above it, and itself. A row's modules may not name each other.
const ROWS: [&[&str]; 16] = [
    &["failure", "drain"],
    &["telemetry"],
    &["relay", "identity"],
    &["config", "mux"],
    &["tls", "mapping"],
    &["fetch"],
    &["policy", "federation"],
    &["audit", "distribution"],
    &["enforce"],
    &["upstream"],
    &["protocol"],
    &["listener"],
    &["admin"],
    &["analysis"],
    &["app"],
    &["cli"],
];

/// What `analysis` may name, as it stands off the data path.
const ANALYSIS_MAY_NAME: [&str; 5] = ["policy", "audit", "mapping", "config", "identity"];

/// `telemetry` does not know configuration, `mapping` knows no socket: the rows say so already. What they do not say:
/// `(module, text it must not hold, why)`.
const FORBIDDEN_TEXT: [(&str, &str, &str); 4] = [
    ("mapping", "cedar_policy", "mapping never sees Cedar"),
    ("mapping", "tokio::", "mapping is pure functions"),
    ("policy", "http::", "the decision point knows no protocol"),
    ("policy", "hyper::", "the decision point knows no protocol"),
];

#[test]
fn each_module_names_only_modules_above_it() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (line, named) in references(&source.text) {
            if named != source.module && !may_name(&source.module, &named) {
                wrong.push(format!("{}:{line}: {} names {named}", source.path.display(), source.module));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_keep_out_of_what_is_not_theirs() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (module, text, why) in FORBIDDEN_TEXT {
            if source.module == module && code_of(&source.text).lines().any(|line| mentions(line, text)) {
                wrong.push(format!("{} holds `{text}`: {why}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_row_and_every_row_a_module() {
    let found: BTreeSet<String> = sources().into_iter().map(|source| source.module).collect();
    let rows: BTreeSet<String> = ROWS.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(found, rows);
}

#[test]
fn references_are_seen_however_they_are_written() {
    let text = "
        use crate::identity::SpiffeId;
        use crate::{audit::Record, policy::{Decision, Outcome}};
        pub(in crate::relay) fn f() -> crate::tls::Peer { portcullis::enforce::x() }
        // use crate::listener::Nothing;
        /// [`crate::admin`]
        #[cfg(test)]
        mod tests { use crate::cli::Everything; }";
    let named: Vec<String> = references(text).into_iter().map(|(_, named)| named).collect();
    assert_eq!(named, ["identity", "audit", "policy", "relay", "tls"]);
}

#[test]
fn a_reference_downwards_is_refused() {
    assert!(may_name("policy", "mapping"));
    assert!(!may_name("mapping", "policy"));
    assert!(!may_name("tls", "mapping"), "they stand in one row");
    assert!(may_name("analysis", "policy"));
    assert!(!may_name("analysis", "listener"));
    assert!(!may_name("admin", "app"));
}

fn may_name(module: &str, named: &str) -> bool {
    let row = |module: &str| ROWS.iter().position(|row| row.contains(&module));
    if module == "analysis" {
        return ANALYSIS_MAY_NAME.contains(&named);
    }
    match (row(module), row(named)) {
        (Some(module), Some(named)) => named < module,
        _ => false,
    }
}

struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

/// Every file below `src` but `lib.rs` and `main.rs`, which only list and start.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).expect("lies below src");
                let first = inside.components().next().expect("has a name").as_os_str().to_string_lossy().into_owned();
                let module = first.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).expect("src is UTF-8");
                let is_tests = inside.with_extension("").components().any(|part| part.as_os_str() == "tests");
                if module != "lib" && module != "main" && !is_tests {
                    sources.push(Source { path: inside.to_owned(), module, text });
                }
            }
        }
    }
    let modules: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
    assert!(modules.len() >= 15, "only {} modules found: does this test still look in the right place?", modules.len());
    sources
}

/// The modules that `text` names by `crate::`, with line numbers. Comments, docs and test modules do not count.
fn references(text: &str) -> Vec<(usize, String)> {
    let code = code_of(text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let is_path = code.get(..at).is_none_or(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        let Some(after) = code.get(at + "crate::".len()..).filter(|_| is_path) else { continue };
        let line = code.get(..at).map_or(0, |before| before.lines().count());
        found.extend(heads(after).into_iter().map(|head| (line, head)));
    }
    found
}

/// The first segments of what follows `crate::`: one, or those of a `{…}` list.
fn heads(after: &str) -> Vec<String> {
    let name =
        |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = after.strip_prefix('{') else { return vec![name(after)] };
    let mut depth = 0_usize;
    let mut heads = vec![name(list)];
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(list.get(at + 1..).map(name)),
            _ => (),
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// The text with comment lines emptied and everything from the test module on left out: tests stand last, and may look
/// at anything.
fn code_of(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            match lines.next() {
                Some(next) if next.trim_end().ends_with('{') => break,
                _ => kept.extend(["", ""]),
            }
        } else {
            kept.push(if line.trim_start().starts_with("//") { "" } else { line });
        }
    }
    kept.join("\n")
}

/// Whether `line` holds `path` as a path of its own, not as the end of a longer name.
fn mentions(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        line.get(..at).is_none_or(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
    })
}
