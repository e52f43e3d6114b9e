//! The key under which a judgement may be remembered.

/// What stands for a decimal integer.
const INTEGER: u8 = 1;
/// What stands for a string.
const STRING: u8 = 2;
/// The most digits of an integer that is surely an `int4`: more may be an `int8` or a `numeric`, which choose other functions.
const DIGITS: usize = 9;

/// A key that two texts share only if they differ in nothing but the values of plain literals. None if only the full text is safe.
///
/// Replaced are standalone decimal integers of at most 9 digits, and `'…'` literals without a backslash that do not follow an identifier
/// character (`E'…'`, `U&'…'`, `B'…'`, `X'…'`, `N'…'`, `date'…'`) and that no other literal continues. Texts with anything outside strings
/// that makes scanning them a question (`$`, `"`, comments, what is not ASCII, control characters) have none.
///
/// One pass, no allocation but the key. Whether what the text means hangs on its literals is another question: `Mapped::literals_do_not_matter`.
#[must_use]
pub fn safe_key(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut key = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    // The byte before `rest`: what decides whether a literal stands alone.
    let mut before = b' ';
    while let [byte, after @ ..] = rest {
        let next = after.first().copied().unwrap_or(b' ');
        match *byte {
            b'"' | b'$' | b'\\' | 0x7F.. => return None,
            b'-' if next == b'-' => return None,
            b'/' if next == b'*' => return None,
            b' ' | b'\t' | b'\n' | b'\r' => {
                key.push(*byte);
                (rest, before) = (after, *byte);
            }
            0..=0x1F => return None,
            b'\'' => {
                if before == b'&' || is_word(before) {
                    return None;
                }
                rest = after_string(after)?;
                key.push(STRING);
                before = b'\'';
            }
            b'0'..=b'9' if !is_word(before) && before != b'.' => {
                rest = after_integer(rest)?;
                key.push(INTEGER);
                before = b'0';
            }
            other => {
                key.push(other);
                (rest, before) = (after, other);
            }
        }
    }
    Some(key)
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What follows an integer that stands alone. `1.5`, `1e3`, `1_000`, `0x1f` and `1a` are none; neither is `1.` of `1..2`.
fn after_integer(rest: &[u8]) -> Option<&[u8]> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after = rest.get(digits..)?;
    let ends = after.first().is_none_or(|next| !is_word(*next) && *next != b'.');
    (digits <= DIGITS && ends).then_some(after)
}

/// What follows a string whose first quote is behind. Two quotes are one within it; another literal after white space would continue it if
/// there is a line break between them, and that is left to the full text.
fn after_string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\'' | b'\\' | 0))?;
        if rest.get(end) != Some(&b'\'') {
            return None;
        }
        rest = rest.get(end + 1..)?;
        match rest {
            [b'\'', more @ ..] => rest = more,
            _ => break,
        }
    }
    let next = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    (next != Some(&b'\'')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::mapping::sql::catalog::Catalog;
    use crate::mapping::sql::catalog::testing::facts;
    use crate::mapping::sql::facts::NothingPrepared;
    use crate::mapping::sql::map;

    static SAMPLE: LazyLock<Catalog> = LazyLock::new(Catalog::sample);

    /// Texts with two places for literals, and what may stand there.
    const SHAPES: &[&str] = &[
        "SELECT name FROM people WHERE id = @ AND ssn = @",
        "SELECT @, @ FROM orders ORDER BY 1 LIMIT 3",
        "SELECT id FROM people ORDER BY @ OFFSET @",
        "UPDATE orders SET note = @ WHERE id = @",
        "INSERT INTO orders (id, note) VALUES (@, @)",
        "SELECT set_config(@, @, false)",
        "SELECT @::regclass, @::text",
        "SELECT regclass @, @",
        "SELECT upper(@), lower(@)",
        "SELECT nextval(@), @",
        "SELECT add(@), @",
        "SET search_path = @, @",
        "NOTIFY c, @; SELECT @",
        "SELECT @ @",
        "SELECT @||@",
        "SELECT a@ FROM people WHERE id IN (@,2)",
        "SELECT mood @, @::mood",
        "SELECT E@, U&@",
        "DECLARE c CURSOR FOR SELECT @, @",
        "PREPARE p AS SELECT @, @",
        "COPY people TO @",
        "SELECT cast(@ as regrole), (@)",
    ];
    const LITERALS: &[&str] = &[
        "1",
        "7",
        "123456789",
        "1234567890",
        "1.5",
        "1e3",
        "0x1f",
        "'people'",
        "'orders'",
        "'5'",
        "'it''s'",
        "'role'",
        "'jit'",
        "'a\\'",
        "'a",
        "''",
        "'numbers'",
        "$1",
        "NULL",
        "'x'\n'y'",
        "/*",
        "-- ",
        "\"x\"",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), ..ProptestConfig::default() })]
        #[test]
        fn texts_of_the_same_key_ask_the_same(
            shape in prop::sample::select(SHAPES),
            literals in prop::array::uniform4(prop::sample::select(LITERALS)),
        ) {
            let fill = |a: &str, b: &str| shape.replacen('@', a, 1).replacen('@', b, 1);
            let [a, b, c, d] = literals;
            let (one, other) = (fill(a, b), fill(c, d));
            let (Some(key), Some(same)) = (safe_key(&one), safe_key(&other)) else { return Ok(()) };
            if key != same {
                return Ok(());
            }
            let judged = |text: &str| map(text, "wh", &SAMPLE, &facts(), &NothingPrepared);
            // Only what was judged is remembered, and only if its literals do not matter.
            if let Ok(known) = judged(&one) && known.literals_do_not_matter {
                let now = judged(&other);
                prop_assert_eq!(now.map(|now| now.statements), Ok(known.statements), "{} and {}", one, other);
            }
        }
    }

    #[test]
    fn only_the_values_of_plain_literals_are_left_out() {
        let same = |a: &str, b: &str| safe_key(a).is_some() && safe_key(a) == safe_key(b);
        assert!(same("SELECT 1", "SELECT 123456789"));
        assert!(same("SELECT a FROM t WHERE b = 'x' AND c=3", "SELECT a FROM t WHERE b = 'it''s' AND c=44"));
        assert!(same("SELECT -1", "SELECT -7") && same("SELECT 'é'", "SELECT 'e'"));
        for (a, b) in [
            ("SELECT 1", "SELECT '1'"),
            ("SELECT 1", "SELECT 1.0"),
            ("SELECT t1 FROM t", "SELECT t2 FROM t"),
            ("SELECT 1", "SELECT  1"),
            ("SELECT 1 1", "SELECT 11"),
            ("SELECT a.b", "SELECT a.c"),
        ] {
            assert!(!same(a, b), "{a} and {b}");
        }
    }

    #[test]
    fn what_cannot_be_scanned_in_one_glance_has_no_key() {
        for text in [
            "SELECT \"a\"",
            "SELECT $1",
            "SELECT $$a$$",
            "SELECT 'a\\'",
            "SELECT E'a'",
            "SELECT U&'a'",
            "SELECT date'2020-01-01'",
            "SELECT 'a'\n'b'",
            "SELECT 'a' 'b'",
            "SELECT 1 -- a",
            "SELECT 1 /* a */",
            "SELECT é",
            "SELECT 1234567890",
            "SELECT 1.5",
            "SELECT 1e5",
            "SELECT 0x1f",
            "SELECT 1_000",
            "SELECT 'a",
            "SELECT 1\0",
            "SELECT 1\x0b",
        ] {
            assert_eq!(safe_key(text), None, "{text}");
        }
    }
}
