//! Misspelt words: finds the one that was probably meant.

/// Returns the candidate that differs least from a word: by at most a third of its letters.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let most = (word.chars().count() / 3).max(1);
    let distances = candidates.iter().map(|candidate| (distance(word, candidate), *candidate));
    distances
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, near)| near)
}

/// Returns the number of letters to insert, delete or replace to turn a word into another.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (number, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = number + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_inserted_deleted_and_replaced_letters() {
        for (from, to, expected) in
            [("", "", 0), ("", "ab", 2), ("replica", "replicas", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn a_word_that_differs_by_more_than_a_third_has_no_nearest_one() {
        assert_eq!(nearest("replica", &["port", "replicas"]), Some("replicas"));
        assert_eq!(nearest("xyzzy", &["port", "replicas"]), None);
    }
}
