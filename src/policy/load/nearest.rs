//! Which known name somebody may have meant.

/// The known name that is fewest edits away from `wrong`, if that is few enough to be a slip.
pub(super) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (wrong.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .filter(|known| *known != wrong)
        .map(|known| (distance(&wrong.to_lowercase(), &known.to_lowercase()), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= limit)
        .map(|(_, known)| known)
}

/// How many characters must be inserted, removed or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            left = (diagonal + usize::from(x != *y)).min(*above + 1).min(left + 1);
            diagonal = std::mem::replace(above, left);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant_and_nonsense_finds_none() {
        let known = ["s3:GetObject", "s3:PutObject", "s3:GetObjectVersion"];
        assert_eq!(nearest("s3:GetObjects", known), Some("s3:GetObject"));
        assert_eq!(nearest("s3:getobject", known), Some("s3:GetObject"));
        assert_eq!(nearest("frobnicate", known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
