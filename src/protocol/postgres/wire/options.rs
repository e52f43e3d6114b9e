//! `options` of a startup packet: a command line for the server.

/// The settings that `options` makes, in order.
///
/// `-c name=value`, `-cname=value` and `--name=value` are understood; what else a server's command line may hold is not.
///
/// # Errors
/// The word that is not understood.
///
/// # Source
/// `pg_split_opts` (postinit.c) for words and escapes, `process_postgres_switches` (postgres.c) for switches, `ParseLongOption`
/// (guc.c) for names, where `-` stands for `_`.
pub(in crate::protocol::postgres) fn split(options: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = words(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = if let Some(long) = word.strip_prefix("--") {
            assignment(long)
        } else if word == "-c" {
            words.next().as_deref().and_then(assignment)
        } else {
            word.strip_prefix("-c").and_then(assignment)
        };
        settings.push(setting.ok_or(word)?);
    }
    Ok(settings)
}

fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    (!name.is_empty()).then(|| (name.replace('-', "_"), value.to_owned()))
}

/// Words between spaces; a backslash takes the next character as it is.
fn words(options: &str) -> Vec<String> {
    // `isspace` of C.
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r');
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        if is_space(character) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match character {
            // A backslash at the very end stands for nothing.
            '\\' => word.extend(characters.next()),
            other => word.push(other),
        }
    }
    words.extend(word);
    words
}
