//! nextval, currval and setval: which sequence they mean is in a text.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{FuncCall, Node, a_const::Val};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::refused;
use crate::mapping::sql::catalog::Relation;

use super::{Walk, strings};

impl Walk<'_, '_> {
    /// A call of a sequence's function.
    pub(super) fn sequence(&mut self, call: &FuncCall, function: &str) -> Result<(), SqlRefusal> {
        self.asked.literals_matter();
        let Some((sequence, rest)) = call.args.split_first() else { return Err(not_constant(function)) };
        self.values(rest)?;
        let relation = self.named_by_constant(sequence)?.ok_or_else(|| not_constant(function))?;
        match function {
            "currval" => self.asked.read(&relation, []),
            "nextval" | "setval" => self.asked.write("sql:Update", &relation, []),
            _ => return Err(not_constant(function)),
        }
        Ok(())
    }

    /// The relation that `'name'`, `'name'::regclass` or an oid stands for.
    fn named_by_constant(&self, node: &Node) -> Result<Option<Arc<Relation>>, SqlRefusal> {
        match &node.node {
            Some(NodeEnum::AConst(constant)) => match &constant.val {
                Some(Val::Sval(text)) => self.named_by_text(&text.sval),
                Some(Val::Ival(oid)) => Ok(u32::try_from(oid.ival).ok().and_then(|oid| self.names.by_oid(oid))),
                _ => Ok(None),
            },
            Some(NodeEnum::TypeCast(cast)) => {
                let names = cast.type_name.as_ref().map(|name| strings(&name.names)).transpose()?.unwrap_or_default();
                let plain = matches!(names.as_slice(), ["regclass" | "text"] | ["pg_catalog", "regclass" | "text"]);
                match (&cast.arg, plain) {
                    (Some(inner), true) => self.named_by_constant(inner),
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    fn named_by_text(&self, text: &str) -> Result<Option<Arc<Relation>>, SqlRefusal> {
        if let Ok(oid) = text.parse::<u32>() {
            return Ok(self.names.by_oid(oid));
        }
        let Some(parts) = qualified_name(text) else { return Ok(None) };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [name] => self.names.relation("", "", name).map(Some),
            [schema, name] => self.names.relation("", schema, name).map(Some),
            [database, schema, name] => self.names.relation(database, schema, name).map(Some),
            _ => Ok(None),
        }
    }
}

fn not_constant(function: &str) -> SqlRefusal {
    refused("sequence-not-constant", format!("`{function}` is judged only with the name of its sequence as a constant"))
}

/// The parts of a name in a text, as `regclass` reads it. None if it is not certain what the server makes of it.
///
/// # Source
/// `SplitIdentifierString` in `src/backend/utils/adt/varlena.c`.
fn qualified_name(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim_matches(is_space).chars().peekable();
    loop {
        let mut part = String::new();
        if rest.next_if_eq(&'"').is_some() {
            loop {
                match rest.next()? {
                    '"' if rest.next_if_eq(&'"').is_some() => part.push('"'),
                    '"' => break,
                    other => part.push(other),
                }
            }
        } else {
            while let Some(other) = rest.next_if(|next| *next != '.' && *next != '"' && !is_space(*next)) {
                // Outside ASCII, how letters are folded is the server's locale's business.
                if !other.is_ascii() {
                    return None;
                }
                part.push(other.to_ascii_lowercase());
            }
        }
        // The server cuts longer names.
        if part.is_empty() || part.len() > 63 {
            return None;
        }
        parts.push(part);
        while rest.next_if(|next| is_space(*next)).is_some() {}
        match rest.next() {
            None => return Some(parts),
            Some('.') => while rest.next_if(|next| is_space(*next)).is_some() {},
            Some(_) => return None,
        }
    }
}

/// `scanner_isspace`.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_texts_are_folded_unless_they_are_quoted() {
        assert_eq!(qualified_name("Public.\"Se\"\"q\"").as_deref(), Some(&["public".into(), "Se\"q".into()][..]));
        assert_eq!(qualified_name(" a . b ").as_deref(), Some(&["a".into(), "b".into()][..]));
        for unclear in ["", "a.", "a b", "\"a", "\"\"", "Ä", "a\"b\""] {
            assert_eq!(qualified_name(unclear), None, "{unclear}");
        }
    }
}
