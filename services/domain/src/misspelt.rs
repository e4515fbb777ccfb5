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

/// Returns the number of letters to insert, delete or replace, or to swap with their neighbour, to turn a word into
/// another.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    // Distances of the letters so far to each start of the other word: of this row, and of the two before it.
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut before: Vec<usize> = Vec::new();
    for (number, letter) in from.iter().enumerate() {
        let mut next = vec![number + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = row[column] + usize::from(letter != other);
            let mut least = replaced.min(row[column + 1] + 1).min(next[column] + 1);
            let is_swapped =
                number > 0 && column > 0 && from[number - 1] == *other && to[column - 1] == *letter;
            if is_swapped {
                least = least.min(before[column - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_inserted_deleted_replaced_and_swapped_letters() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("replica", "replicas", 1),
            ("kitten", "sitting", 3),
            ("wbe", "web", 1),
        ] {
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
