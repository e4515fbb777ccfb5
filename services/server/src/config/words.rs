//! Lists of words in settings.

use serde::{Deserialize, Deserializer};

/// Reads words from a list, or from a text with commas.
pub(super) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::List(words) => words,
        Words::Text(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
    })
}
