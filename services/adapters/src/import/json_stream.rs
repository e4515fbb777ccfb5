//! Items of exported JSON: pages, concatenated pages, pages of pages, or one item a line.

use serde_json::{Deserializer, Value};

/// Maximum depth of pages of pages.
const NESTING_LIMIT: usize = 4;

/// Returns the items of a text, in order: every value that is not an array. Items that cannot be read end the text with
/// an error that states the place.
pub(super) fn items(text: &str) -> Vec<Result<Value, String>> {
    let mut items = Vec::new();
    for value in Deserializer::from_str(text).into_iter::<Value>() {
        match value {
            Ok(value) => flatten(value, NESTING_LIMIT, &mut items),
            Err(error) => items.push(Err(format!("the file is not JSON from here on: {error}"))),
        }
    }
    items
}

fn flatten(value: Value, depth: usize, items: &mut Vec<Result<Value, String>>) {
    match value {
        Value::Array(page) if depth > 0 => {
            page.into_iter().for_each(|value| flatten(value, depth - 1, items));
        }
        value => items.push(Ok(value)),
    }
}

/// Returns a member; `None` if it is null.
pub(super) fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.get(name).filter(|value| !value.is_null())
}

/// Returns a text that is not empty.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    member(value, name)?.as_str().filter(|text| !text.is_empty())
}

/// Returns an id: an integer or a text.
pub(super) fn id(value: &Value, name: &str) -> Option<String> {
    match member(value, name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Vec<String> {
        items(text)
            .into_iter()
            .map(|item| item.map_or_else(|_| "error".to_owned(), |item| item.to_string()))
            .collect()
    }

    #[test]
    fn pages_pages_of_pages_and_lines_are_the_same_items() {
        for text in ["[1, 2, 3]", "[1][2,3]", "[[1,2],[3]]", "1\n2\r\n3\n", " [1,\n2] 3 "] {
            assert_eq!(numbers(text), ["1", "2", "3"], "{text}");
        }
        assert!(numbers("").is_empty());
        assert_eq!(numbers("[1,2]\n{\"a\": "), ["1", "2", "error"]);
        assert_eq!(numbers("[1,"), ["error"]);
    }
}
