//! How deep the tree of a text may be, told from its tokens before there is a tree.
//!
//! The tree is decoded, walked and dropped by functions that call themselves, with some 15 KiB of stack for each message in each other. No
//! tree has more than 10,000 of them (`PG_QUERY_PROTOBUF_MAX_DEPTH`), for which a thread of [`super::STACK`] has room; but what a stack has
//! once used stays with the process. So what is far deeper than anything that people and programs write is refused before.

use pg_query::protobuf::{KeywordKind, Token};

/// Most messages in each other that are decoded: 1,000 operators in a row or 100 subqueries in each other are below it.
const DEEPEST: usize = 2_500;
/// A shorter text is never that deep: no character makes more than two.
const SHORT: usize = DEEPEST / 2;

/// What an operator, or a keyword in an expression, adds: a node and what it holds.
const OPERATOR: usize = 2;
/// What a bracket adds: at most a subquery's node, its statement and one of its columns.
const BRACKET: usize = 6;

/// The inside of a pair of brackets.
#[derive(Debug, Default)]
struct Level {
    /// Joins and set operations: each holds all those before it, whatever is between them.
    structure: usize,
    /// Operators since the last comma or the like.
    operators: usize,
    /// The deepest bracket since then.
    inside: usize,
    /// The deepest part before.
    deepest: usize,
}

impl Level {
    /// What follows does not hold what was before.
    fn separate(&mut self) {
        self.deepest = self.deepest.max(self.operators + self.inside);
        self.operators = 0;
        self.inside = 0;
    }

    fn depth(&self) -> usize {
        self.structure + self.deepest.max(self.operators + self.inside)
    }
}

/// Whether a text is too deep to be decoded.
pub(super) fn is_too_deep(text: &str) -> bool {
    if text.len() <= SHORT {
        return false;
    }
    // What the scanner does not take, the parser does not take either, and says why.
    let Ok(tokens) = pg_query::scan_tokens(text) else { return false };
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::default();
    let mut previous = Token::Nul;
    for token in &tokens {
        let kind = Token::try_from(token.token).unwrap_or(Token::Nul);
        match kind {
            Token::Ascii40 | Token::Ascii91 | Token::Case => outer.push(std::mem::take(&mut level)),
            Token::Ascii41 | Token::Ascii93 | Token::EndP => {
                if let Some(mut around) = outer.pop() {
                    around.inside = around.inside.max(level.depth() + BRACKET);
                    level = around;
                }
            }
            Token::Ascii44 | Token::And | Token::Or | Token::When | Token::Then | Token::Else | Token::On => {
                level.separate();
            }
            Token::Join | Token::Union | Token::Intersect | Token::Except => {
                level.structure += OPERATOR;
                level.separate();
            }
            Token::Ascii59 => level = Level { deepest: level.depth(), ..Level::default() },
            Token::Ident
            | Token::Uident
            | Token::Sconst
            | Token::Usconst
            | Token::Bconst
            | Token::Xconst
            | Token::Fconst
            | Token::Iconst
            | Token::Param
            | Token::Ascii46
            | Token::SqlComment
            | Token::CComment => {}
            // AT LOCAL is the only operator of unreserved keywords alone; else they are names.
            Token::At => level.operators += OPERATOR,
            _ if token.keyword_kind() == KeywordKind::UnreservedKeyword => {}
            // Names of types may be keywords.
            _ if previous == Token::Typecast => {}
            _ => level.operators += OPERATOR,
        }
        previous = kind;
        if outer.len() * BRACKET > DEEPEST || level.depth() > DEEPEST {
            return true;
        }
    }
    false
}
