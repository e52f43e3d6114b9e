//! `invariants.yaml` as it is written.

use std::collections::HashMap;
use std::ops::Range;
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::{Expression, Policy};
use serde_json::Value as Json;

use super::places::Places;
use crate::config::{Entry, Node, Value, document, nearest};
use crate::policy::load::{Language, PolicyProblem, Problems, SourceFile, too_deep};

/// Longest name, as that of a policy.
const MAX_NAME_BYTES: usize = 128;

const FORM: &str = "an invariant is `name: …`, if wanted `reason: …`, and `never:` or `always:` with some of `principals`, `actions`, `resources` and `when`";

/// What an invariant says of the requests that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// None of them is allowed.
    Never,
    /// All of them are.
    Always,
}

impl Says {
    /// As the file has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}

/// One invariant.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) name: Arc<str>,
    pub(super) reason: Option<String>,
    pub(super) says: Says,
    /// Where its name stands.
    pub(super) span: Range<usize>,
    pub(super) fields: Vec<Field>,
}

/// What it says of principals, actions, resources or anything.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) about: About,
    /// A Cedar expression.
    pub(super) text: String,
    pub(super) places: Places,
}

/// A key of `never` and `always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    Principals,
    Actions,
    Resources,
    When,
}

impl About {
    const ALL: [Self; 4] = [Self::Principals, Self::Actions, Self::Resources, Self::When];

    const fn key(self) -> &'static str {
        match self {
            Self::Principals => "principals",
            Self::Actions => "actions",
            Self::Resources => "resources",
            Self::When => "when",
        }
    }

    /// The only variable that it speaks of; `when` speaks of any.
    pub(super) const fn variable(self) -> Option<&'static str> {
        match self {
            Self::Principals => Some("principal"),
            Self::Actions => Some("action"),
            Self::Resources => Some("resource"),
            Self::When => None,
        }
    }
}

/// Reads the file. What is wrong with it is added to `problems`.
pub(super) fn read(file: &Arc<SourceFile>, problems: &mut Problems) -> Vec<Written> {
    let reading = Reading { file };
    let mut found = Vec::new();
    match document(file.name(), file.text()) {
        Ok(node) => match reading.list(node.as_ref(), problems) {
            Ok(nodes) => found.extend(nodes.iter().filter_map(|node| reading.invariant(node, problems))),
            Err(problem) => problems.push(*problem),
        },
        Err(wrong) => {
            for problem in wrong {
                let mut placed = PolicyProblem::error(file, problem.span(), problem.message.clone());
                placed = placed.some_help(problem.help.clone());
                problems.push(placed);
            }
        }
    }
    let mut lines: HashMap<Arc<str>, usize> = HashMap::new();
    for written in &found {
        let (line, _) = file.position(written.span.start);
        if let Some(first) = lines.insert(Arc::clone(&written.name), line) {
            let message = format!("name `{}` is taken", written.name);
            let help = format!("the invariant in line {first} has it: each needs its own");
            problems.push(PolicyProblem::error(file, Some(written.span.clone()), message).help(help));
        }
    }
    found
}

struct Reading<'a> {
    file: &'a Arc<SourceFile>,
}

impl Reading<'_> {
    fn error(&self, span: Range<usize>, message: impl Into<String>) -> PolicyProblem {
        // The text of a block is long.
        let length = self.file.text().get(span.clone()).and_then(|text| text.find('\n'));
        PolicyProblem::error(
            self.file,
            Some(span.start..length.map_or(span.end, |length| span.start + length)),
            message,
        )
    }

    fn list<'n>(&self, node: Option<&'n Node>, problems: &mut Problems) -> Result<&'n [Node], Box<PolicyProblem>> {
        let wrong = |span: Range<usize>, message: &str| {
            Box::new(self.error(span, message).help(format!("write `invariants:` and a list: {FORM}")))
        };
        let Some(Node { value: Value::Map(entries), span }) = node else {
            return Err(wrong(
                node.map_or(0..0, |node| node.span.clone()),
                "file is not a mapping with a list `invariants`",
            ));
        };
        let mut list = None;
        for entry in entries {
            match &entry.node.value {
                Value::List(nodes) if entry.key == "invariants" => list = Some(nodes.as_slice()),
                _ if entry.key == "invariants" => {
                    return Err(wrong(entry.key_span.clone(), "`invariants` is not a list"));
                }
                _ => problems.push(self.unknown(entry, &["invariants"])),
            }
        }
        match list {
            None => Err(wrong(span.clone(), "file has no list `invariants`")),
            Some([]) => Err(wrong(span.clone(), "file has no invariant: nothing would be proved")),
            Some(nodes) => Ok(nodes),
        }
    }

    fn unknown(&self, entry: &Entry, known: &[&str]) -> PolicyProblem {
        let help = match nearest(&entry.key, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the keys here are {}", known.join(", ")),
        };
        self.error(entry.key_span.clone(), format!("unknown key `{}`", entry.key)).help(help)
    }

    fn invariant(&self, node: &Node, problems: &mut Problems) -> Option<Written> {
        let Value::Map(entries) = &node.value else {
            problems.push(self.error(node.span.clone(), "is no invariant").help(FORM));
            return None;
        };
        let (mut name, mut reason, mut said) = (None, None, None);
        for entry in entries {
            match (entry.key.as_str(), &entry.node.value) {
                ("name", Value::Text(text)) => name = Some((text, entry.node.span.clone())),
                ("reason", Value::Text(text)) => reason = Some(text.clone()),
                ("name" | "reason", _) => {
                    problems.push(
                        self.error(entry.key_span.clone(), format!("`{}` is not text", entry.key))
                            .help("put it in quotes"),
                    );
                    return None;
                }
                ("never" | "always", _) if said.is_some() => {
                    let message = "an invariant says either `never` or `always`";
                    problems.push(self.error(entry.key_span.clone(), message).help("make two of it"));
                }
                ("never", _) => said = Some((Says::Never, entry)),
                ("always", _) => said = Some((Says::Always, entry)),
                _ => problems.push(self.unknown(entry, &["name", "reason", "never", "always"])),
            }
        }
        let start = entries.first().map_or(node.span.clone(), |entry| entry.key_span.clone());
        let Some((name, span)) = name else {
            problems.push(self.error(start, "invariant has no `name`").help(FORM));
            return None;
        };
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            let message = format!("name is empty, has control characters, or more than {MAX_NAME_BYTES} bytes");
            problems.push(self.error(span, message).help("write one by which people know what is meant"));
            return None;
        }
        let Some((says, entry)) = said else {
            problems.push(self.error(span, format!("invariant `{name}` says neither `never` nor `always`")).help(FORM));
            return None;
        };
        let fields = self.fields(entry, problems)?;
        Some(Written { name: name.as_str().into(), reason, says, span, fields })
    }

    /// None if something is wrong with them.
    fn fields(&self, of: &Entry, problems: &mut Problems) -> Option<Vec<Field>> {
        let keys = About::ALL.map(About::key);
        let Value::Map(entries) = &of.node.value else {
            let message = format!("`{}` has no keys", of.key);
            let help = format!("say what it is about: some of {}", keys.join(", "));
            problems.push(self.error(of.key_span.clone(), message).help(help));
            return None;
        };
        let mut fields = Vec::new();
        let mut is_good = true;
        for entry in entries {
            let found = match About::ALL.into_iter().find(|about| about.key() == entry.key) {
                Some(about) => self.field(about, entry),
                None => Err(Box::new(self.unknown(entry, &keys))),
            };
            match found {
                Ok(field) => fields.push(field),
                Err(problem) => {
                    problems.push(*problem);
                    is_good = false;
                }
            }
        }
        fields.sort_by_key(|field| field.about);
        is_good.then_some(fields)
    }

    fn field(&self, about: About, entry: &Entry) -> Result<Field, Box<PolicyProblem>> {
        let example = match about {
            About::Principals => "`principals: principal in Stage::\"archiver\"`",
            About::Actions => "`actions: action in [Action::\"delete\", Action::\"write\"]`",
            About::Resources => "`resources: resource in Bucket::\"lake/raw\"`",
            About::When => "`when: context.direction == \"inbound\"`",
        };
        let help = format!("write a Cedar expression, as in {example}");
        let Value::Text(text) = &entry.node.value else {
            let message = format!("`{}` is not one Cedar expression", entry.key);
            return Err(Box::new(self.error(entry.key_span.clone(), message).help(help)));
        };
        let places = Places::new(text, self.file.text(), entry.node.span.clone());
        if let Some(problem) = too_deep(&SourceFile::new("", text.as_str()), Language::Policies) {
            return Err(Box::new(problem.moved(self.file, |span| Some(places.of(span)), |message| message)));
        }
        if let Err(errors) = Expression::from_str(text) {
            let problem = match errors.iter().next() {
                Some(cause) => PolicyProblem::from_cedar(self.file, cause),
                None => self.error(entry.node.span.clone(), errors.to_string()),
            };
            let problem = problem.moved(self.file, |span| Some(places.of(span)), |message| message);
            return Err(Box::new(problem.some_help(Some(help))));
        }
        let wrong = |message: String, help: String| {
            Err(Box::new(PolicyProblem::error(self.file, Some(places.of(0..text.len())), message).help(help)))
        };
        let Some(tree) = tree(text) else { return wrong(format!("`{}` is no condition of a policy", entry.key), help) };
        let variables = variables(&tree);
        match about.variable() {
            Some(own) if variables.is_empty() || tree.get("Set").is_some() || tree.get("Value").is_some() => {
                wrong(format!("`{}` says nothing of `{own}`", entry.key), help)
            }
            Some(own) => match variables.iter().find(|variable| *variable != own) {
                Some(other) => wrong(
                    format!("`{}` speaks of `{other}`", entry.key),
                    format!("it is about `{own}` alone; what is about several things goes into `when`"),
                ),
                None => Ok(Field { about, text: text.clone(), places }),
            },
            None => Ok(Field { about, text: text.clone(), places }),
        }
    }
}

/// An expression in Cedar's JSON form.
fn tree(text: &str) -> Option<Json> {
    let policy = Policy::parse(None, format!("permit (principal, action, resource) when {{\n{text}\n}};")).ok()?;
    policy.to_json().ok()?.pointer("/conditions/0/body").cloned()
}

fn variables(tree: &Json) -> Vec<String> {
    match tree {
        Json::Object(fields) => {
            let own = fields.get("Var").and_then(Json::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(variables)).collect()
        }
        Json::Array(items) => items.iter().flat_map(variables).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_is_nested_too_deeply_is_refused_before_it_is_parsed() {
        for (depth, is_refused) in [(40, false), (100_000, true)] {
            let when = format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
            let text = format!(
                "invariants:\n  - name: deep\n    never:\n      actions: action in Action::\"delete\"\n      when: {when}\n"
            );
            let mut problems = Problems::default();
            read(&SourceFile::new("invariants.yaml", text), &mut problems);
            let said = problems.verdict().map_or_else(|errors| errors.to_string(), |_| String::new());
            assert_eq!(
                said.contains("nested too deeply"),
                is_refused,
                "{}",
                said.chars().take(300).collect::<String>()
            );
        }
    }
}
