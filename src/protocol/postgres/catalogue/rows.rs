//! DataRow messages.

/// The values of a DataRow in text format; none if it is malformed or not UTF-8.
///
/// # Source
/// PostgreSQL, "Message Formats", DataRow.
pub(in crate::protocol::postgres) fn values_of(body: &[u8]) -> Option<Vec<Option<&str>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let count = u16::from_be_bytes(*count);
    let mut values = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        // -1 is NULL.
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            values.push(None);
            continue;
        };
        let (value, after) = rest.split_at_checked(length)?;
        values.push(Some(std::str::from_utf8(value).ok()?));
        rest = after;
    }
    rest.is_empty().then_some(values)
}
