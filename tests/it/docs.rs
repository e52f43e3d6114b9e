//! Links in the documentation lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold no page of ours.
const SKIPPED: [&str; 3] = ["target", "node_modules", ".git"];

#[test]
fn links_between_pages_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages(root);
    assert!(pages.len() >= 8, "only {} pages found: does this test still look in the right place?", pages.len());
    let mut broken = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page is UTF-8");
        for link in links(&text) {
            let path = link.split('#').next().unwrap_or_default();
            let elsewhere = link.contains("://") || link.starts_with("mailto:") || path.is_empty();
            let folder = page.parent().unwrap_or(root);
            if !elsewhere && !folder.join(path).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
            let Some((path, anchor)) = link.split_once('#').filter(|_| !link.contains("://")) else { continue };
            let target = if path.is_empty() { page.clone() } else { folder.join(path) };
            let text = fs::read_to_string(target).unwrap_or_default();
            if !anchors(&text).iter().any(|known| known == anchor) {
                broken.push(format!("{}: {link}: no such heading", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn links_are_found_outside_of_code() {
    let text = "see [a](b.md), `[not](c.md)`\n```\n[not](d.md)\n```\n[e](f.md#g)";
    assert_eq!(links(text), ["b.md", "f.md#g"]);
}

#[test]
fn the_page_on_postgresql_has_the_table_of_statements() {
    let page = include_str!("../../docs/postgres.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `") && line.contains("` | ")).collect();
    let kinds: Vec<String> =
        portcullis::mapping::sql::kinds().map(|(kind, asks)| format!("| `{kind}` | {asks} |")).collect();
    assert!(kinds.len() > 50, "{}", kinds.len());
    let missing: Vec<&String> = kinds.iter().filter(|row| !rows.contains(&row.as_str())).collect();
    assert!(missing.is_empty(), "docs/postgres.md lacks:\n{missing:#?}");
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the project can be read") {
        let path = entry.expect("the project can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
            found.extend(pages(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

/// What headings are called in links: lower case, words joined by dashes, without other signs; one of the same name is counted.
fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('#')) {
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let counted = (1..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(counted).find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}

#[test]
fn headings_are_called_as_forges_call_them() {
    let text = "# A page\n## 8. What `nobody` needs\ntext\n### Asking: `explain`\n# A page\n";
    assert_eq!(anchors(text), ["a-page", "8-what-nobody-needs", "asking-explain", "a-page-1"]);
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (index, fenced) in text.split("```").enumerate() {
        if index % 2 == 1 {
            continue;
        }
        for (index, span) in fenced.split('`').enumerate() {
            if index % 2 == 0 {
                let after = span.split("](").skip(1);
                found.extend(after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target));
            }
        }
    }
    found
}
