//! The name that was probably meant.

/// The candidate nearest to `word`, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any name there is, and the distance costs the product of both lengths.
    const LONGEST: usize = 128;
    if word.len() > LONGEST {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| is_near(*distance, word, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn is_near(distance: usize, word: &str, candidate: &str) -> bool {
    let shorter = word.chars().count().min(candidate.chars().count());
    let slips = match shorter {
        0..=1 => 0,
        2..=3 => 1,
        4..=8 => 2,
        _ => shorter / 3,
    };
    distance <= slips || (shorter >= 4 && (candidate.starts_with(word) || word.starts_with(candidate)))
}

/// Levenshtein's distance: insertions, deletions and substitutions.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = i + 1;
        next.push(left);
        for (y, (diagonal, above)) in b.chars().zip(row.iter().zip(row.iter().skip(1))) {
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("http", "htpp", 1), ("é", "e", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_slip_finds_the_name_and_a_stranger_finds_none() {
        let names = ["name", "listen", "protocol", "upstream"];
        assert_eq!(nearest("protocl", names), Some("protocol"));
        assert_eq!(nearest("Listen", names), Some("listen"));
        assert_eq!(nearest("proto", names), Some("protocol"));
        assert_eq!(nearest("mode", names), None);
        assert_eq!(nearest(&"x".repeat(5_000), names), None);
    }
}
