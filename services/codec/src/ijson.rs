//! A parser for I-JSON (RFC 7493) and a writer for canonical JSON (RFC 8785).
//!
//! The parser rejects input that two parsers could read differently: duplicate keys, and numbers beyond ±(2^53 − 1),
//! which not every parser can represent. Objects keep their members in canonical order, so writing a parsed value gives
//! its canonical form.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The maximum nesting depth of a value.
pub(crate) const DEPTH_LIMIT: usize = 32;

/// The largest integer that every JSON parser represents exactly: 2^53 − 1.
const INTEGER_LIMIT: i64 = (1 << 53) - 1;

/// A JSON value. Strings without escapes are borrowed from the input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// An object without duplicate keys, in canonical order: by the UTF-16 code units of the keys.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

/// The reason why a text is not I-JSON, as a predicate of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("is not JSON: {0}")]
    Syntax(String),
    #[error("has the key {0:?} twice in one object")]
    DuplicateKey(String),
    #[error("has the number {0}, which is beyond ±(2^53 − 1) and not portable; write it as a string")]
    Number(String),
    #[error("nests deeper than {DEPTH_LIMIT} levels")]
    Depth,
}

impl<'a> Object<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.position(key).map(|index| &self.0[index].1)
    }

    pub(crate) fn position(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|(name, _)| name == key)
    }

    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }

    /// Returns the object as RFC 8785 canonical JSON.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_string(key, out);
            out.push(b':');
            value.write(out);
        }
        out.push(b'}');
    }

    /// Returns the members in canonical order.
    pub(crate) fn into_members(self) -> Vec<(Cow<'a, str>, Json<'a>)> {
        self.0
    }

    /// Creates an object of these members; fails on a duplicate key.
    pub(crate) fn from_members(mut members: Vec<(Cow<'a, str>, Json<'a>)>) -> Result<Self, Error> {
        members.sort_by(|(a, _), (b, _)| canonical_order(a, b));
        match members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(Error::DuplicateKey(pair[0].0.chars().take(64).collect())),
            None => Ok(Self(members)),
        }
    }
}

/// Compares keys by UTF-16 code units (RFC 8785, section 3.2.3). ASCII keys have the same order by bytes.
fn canonical_order(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

impl<'a> Json<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let cause = Cell::new(None);
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let parsed = ValueSeed { depth: 0, cause: &cause }.deserialize(&mut deserializer);
        parsed
            .and_then(|value| deserializer.end().map(|()| value))
            .map_err(|error| cause.take().unwrap_or_else(|| Error::Syntax(error.to_string())))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Integer(number) => write_integer(*number, out),
            Self::Float(number) => out.extend_from_slice(ryu_js::Buffer::new().format(*number).as_bytes()),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(object) => object.write(out),
        }
    }

    /// Returns the type of the value with its article, for error messages.
    pub(crate) const fn type_phrase(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

fn write_integer(number: i64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{number}");
}

/// Writes a string with the escapes of ECMAScript's `JSON.stringify` (RFC 8785, section 3.2.2.2).
fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut unescaped_from = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x08 => b"\\b",
            0x09 => b"\\t",
            0x0a => b"\\n",
            0x0c => b"\\f",
            0x0d => b"\\r",
            0x00..=0x1f => {
                &[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[unescaped_from..index]);
        out.extend_from_slice(escape);
        unescaped_from = index + 1;
    }
    out.extend_from_slice(&bytes[unescaped_from..]);
    out.push(b'"');
}

/// The deserializer of one value. serde reduces errors to text, so `cause` carries the typed error.
struct ValueSeed<'c> {
    depth: usize,
    cause: &'c Cell<Option<Error>>,
}

impl ValueSeed<'_> {
    fn fail<E: serde::de::Error>(&self, error: Error) -> E {
        let text = E::custom(&error);
        self.cause.set(Some(error));
        text
    }

    fn nested(&self) -> Self {
        Self { depth: self.depth + 1, cause: self.cause }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Json<'de>, E> {
        if number < -INTEGER_LIMIT {
            return Err(self.fail(Error::Number(number.to_string())));
        }
        Ok(Json::Integer(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Json<'de>, E> {
        match i64::try_from(number) {
            Ok(number) if number <= INTEGER_LIMIT => Ok(Json::Integer(number)),
            _ => Err(self.fail(Error::Number(number.to_string()))),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Json<'de>, E> {
        const LIMIT: f64 = 9_007_199_254_740_991.0;
        if number.abs() > LIMIT {
            return Err(self.fail(Error::Number(number.to_string())));
        }
        Ok(Json::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        if self.depth == DEPTH_LIMIT {
            return Err(self.fail(Error::Depth));
        }
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.nested())? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        if self.depth == DEPTH_LIMIT {
            return Err(self.fail(Error::Depth));
        }
        let mut members = Vec::with_capacity(8);
        while let Some(Key(key)) = map.next_key()? {
            members.push((key, map.next_value_seed(self.nested())?));
        }
        Object::from_members(members).map(Json::Object).map_err(|error| self.fail(error))
    }
}

/// A key, borrowed from the input if possible: serde's own `Cow` always copies.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> Result<String, Error> {
        let mut out = Vec::new();
        Json::parse(text.as_bytes())?.write(&mut out);
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn keys_are_sorted_and_strings_escaped_as_rfc_8785_specifies() {
        assert_eq!(
            canonical(r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#),
            Ok("{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}".into())
        );
        assert_eq!(
            canonical(r#"["\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/"]"#),
            Ok(r#"["€$\u000f\nA'B\"\\\\\"/"]"#.into())
        );
    }

    #[test]
    fn numbers_are_written_as_rfc_8785_specifies() {
        assert_eq!(canonical("[1.0,-0,-0.0,1e3,4.50,2e-3,1E-27]"), Ok("[1,0,0,1000,4.5,0.002,1e-27]".into()));
    }

    #[test]
    fn ambiguous_and_malformed_json_is_rejected() {
        assert_eq!(canonical(r#"{"a":1,"b":{"c":1,"c":2}}"#), Err(Error::DuplicateKey("c".into())));
        assert_eq!(canonical("9007199254740992"), Err(Error::Number("9007199254740992".into())));
        assert_eq!(canonical("-9007199254740992"), Err(Error::Number("-9007199254740992".into())));
        assert!(matches!(canonical("12345678901234567890123"), Err(Error::Number(_))));
        assert!(matches!(canonical("1e400"), Err(Error::Syntax(_))));
        assert!(matches!(canonical(r#""\ud800""#), Err(Error::Syntax(_))));
        assert!(matches!(canonical("{} {}"), Err(Error::Syntax(_))));
        assert_eq!(canonical("9007199254740991"), Ok("9007199254740991".into()));
    }

    #[test]
    fn nesting_beyond_the_limit_is_rejected() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(canonical(&nested(DEPTH_LIMIT)).is_ok());
        assert_eq!(canonical(&nested(DEPTH_LIMIT + 1)), Err(Error::Depth));
        assert_eq!(canonical(&nested(100)), Err(Error::Depth));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            (-INTEGER_LIMIT..=INTEGER_LIMIT).prop_map(Into::into),
            (-1e15..1e15_f64).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_matches_that_of_another_implementation(value in any_json()) {
            let text = serde_json::to_string(&value).expect("JSON");
            let expected = serde_json_canonicalizer::to_string(&value).expect("canonical JSON");
            prop_assert_eq!(canonical(&text).expect("I-JSON"), expected);
        }
    }
}
