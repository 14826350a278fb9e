//! "Did you mean …?": the known name nearest to a mistyped one.

/// The nearest of `known`, unless even that one is too far off to be what was meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Underscores and capitals are the commonest slips, so they cost nothing.
    let plain = |s: &str| s.to_ascii_lowercase().replace('_', "-");
    let typed = plain(typed);
    known
        .into_iter()
        .map(|name| (distance(&typed, &plain(name)), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().max(typed.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits (insert, remove, replace, swap of neighbours) from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slip of the finger still finds the name; something else entirely finds none.
    #[test]
    fn nearest_name_is_the_one_that_was_meant() {
        let known = ["data-dir", "s3-addr", "http-addr", "fsync"];
        assert_eq!(nearest("data_dir", known), Some("data-dir"));
        assert_eq!(nearest("htpp-addr", known), Some("http-addr"));
        assert_eq!(nearest("s3addr", known), Some("s3-addr"));
        assert_eq!(nearest("fscyn", known), Some("fsync"));
        assert_eq!(nearest("telemetry-endpoint", known), None);
    }
}
