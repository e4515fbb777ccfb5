//! CloudEvents 1.0.2: what its core specification, JSON format and HTTP binding require of a receiver. Each test names
//! the section.

use super::*;

/// Returns an event with these members, written as JSON, in place of its own or in addition.
fn event_with(members: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("specversion", r#""1.0""#),
        ("id", r#""1""#),
        ("source", r#""urn:ci""#),
        ("type", r#""io.releaseledger.deploy.removed.v1""#),
        ("time", r#""2026-08-01T12:00:00Z""#),
        ("data", r#"{"environment": "dev", "service": "web"}"#),
    ];
    all.retain(|(name, _)| !members.iter().any(|(other, _)| other == name));
    let members = all.iter().chain(members).map(|(name, value)| format!(r#""{name}": {value}"#));
    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
}

/// Returns the place of the fault of an event with these members; an empty text if it is accepted.
fn fault(members: &[(&str, &str)]) -> String {
    match Envelope::parse(event_with(members).as_bytes()) {
        Ok(_) => String::new(),
        Err(InvalidEvent { reason: Reason::Value { pointer, .. }, .. }) => pointer,
        Err(other) => panic!("no place in {other}"),
    }
}

fn assert_accepted_when_stored(members: &[(&str, &str)]) {
    let event = event_with(members);
    assert!(Envelope::stored(event.clone().into()).is_ok(), "{event}");
}

#[test]
fn core_3_1_attribute_names_are_lower_case_letters_and_digits() {
    for name in ["traceparent", "x", "7", "sampledrate"] {
        assert_eq!(fault(&[(name, r#""a""#)]), "", "{name}");
    }
    for name in ["Traceparent", "trace-parent", "trace_parent", "trace.parent", "é"] {
        assert_eq!(fault(&[(name, r#""a""#)]), format!("/{name}"));
    }
}

#[test]
fn core_3_1_1_an_integer_has_32_bits() {
    for integer in ["0", "-2147483648", "2147483647"] {
        assert_eq!(fault(&[("attempt", integer)]), "", "{integer}");
    }
    for integer in ["-2147483649", "2147483648", "9007199254740991", "1.5", "1.0", "1e3"] {
        assert_eq!(fault(&[("attempt", integer)]), "/attempt", "{integer}");
    }
    assert_accepted_when_stored(&[("attempt", "2147483648")]);
}

#[test]
fn core_3_1_1_a_string_has_no_control_characters_and_no_noncharacters() {
    for name in ["comexample", "subject", "id", "source"] {
        for code in ["0000", "000a", "000d", "001b", "007f", "0085", "009f", "fdd0", "fffe", "d83f\\udfff"] {
            let value = format!(r#""a\u{code}b""#);
            assert_eq!(fault(&[(name, &value)]), format!("/{name}"), "{value}");
        }
    }
    for text in [r#""""#, r#""é 日本語 \u202e""#, r#""\ud83d\ude00""#] {
        assert_eq!(fault(&[("comexample", text)]), "", "{text}");
    }
    for half in [r#""\ud83d""#, r#""\ude00\ud83d""#] {
        let event = event_with(&[("comexample", half)]);
        let invalid = Envelope::parse(event.as_bytes()).expect_err("half of a pair");
        assert!(matches!(invalid.reason, Reason::NotJson(_)), "{invalid}");
    }
    assert_accepted_when_stored(&[("comexample", r#""a\u000ab""#)]);
}

#[test]
fn core_3_1_1_an_attribute_is_a_string_a_boolean_or_an_integer() {
    assert_eq!(fault(&[("sampled", "true")]), "");
    for value in ["[]", "{}", "0.5"] {
        assert_eq!(fault(&[("sampled", value)]), "/sampled", "{value}");
    }
}

#[test]
fn core_3_2_required_attributes_are_present_and_not_empty() {
    for name in ["id", "source", "specversion", "type"] {
        for value in ["null", r#""""#, "7"] {
            let event = event_with(&[(name, value)]);
            assert!(Envelope::parse(event.as_bytes()).is_err(), "{event}");
        }
    }
    for version in [r#""0.3""#, r#""1""#, r#""1.0.2""#] {
        assert_eq!(fault(&[("specversion", version)]), "/specversion");
    }
}

#[test]
fn core_3_2_source_is_a_uri_reference() {
    for source in [r#""/jobs/1?a=b#c""#, r#""urn:uuid:6d0e4e10""#, r#""release-ledger-cli""#, r#""a%20b""#] {
        assert_eq!(fault(&[("source", source)]), "", "{source}");
    }
    for source in [r#""a b""#, r#""a\"b""#, r#""<a>""#, r#""a#b#c""#, r#""50%""#, r#""é""#, r#""a\\b""#] {
        assert_eq!(fault(&[("source", source)]), "/source", "{source}");
    }
    assert_accepted_when_stored(&[("source", r#""a b""#)]);
}

#[test]
fn core_3_3_optional_attributes_have_their_types() {
    assert_eq!(fault(&[("subject", r#""dev/web""#), ("dataschema", r#""https://example.com/s.json""#)]), "");
    for (name, value) in [
        ("subject", r#""""#),
        ("subject", "7"),
        ("dataschema", r#""""#),
        ("dataschema", "true"),
        ("dataschema", r#""a b:c""#),
        ("dataschema", r#""relative""#),
        ("datacontenttype", r#""text/plain""#),
        ("time", r#""2026-08-01""#),
        ("time", r#""2026-08-01T12:00:60Z""#),
    ] {
        assert_eq!(fault(&[(name, value)]), format!("/{name}"), "{value}");
    }
}

#[test]
fn json_2_2_a_null_attribute_is_unset() {
    let without = Envelope::parse(event_with(&[]).as_bytes());
    let nulls = [("subject", "null"), ("dataschema", "null"), ("comexample", "null")];
    assert_eq!(Envelope::parse(event_with(&nulls).as_bytes()), without);
    assert_eq!(fault(&[("time", "null")]), "/time");
}

#[test]
fn json_3_1_data_is_json_and_not_base64() {
    assert_eq!(fault(&[("data_base64", r#""e30=""#)]), "/data_base64");
}

#[test]
fn json_4_a_batch_is_an_array_and_may_be_empty() {
    assert_eq!(Envelope::split_batch(&Bytes::from_static(b"[]"), 1).expect("a batch").count(), 0);
    assert!(Envelope::split_batch(&Bytes::from(event_with(&[])), 1).is_err());
}

#[test]
fn http_3_1_3_a_header_is_one_attribute_and_never_data() {
    let parts = |extra: (&'static str, &str)| {
        let attributes = [
            ("specversion", "1.0"),
            ("id", "1"),
            ("source", "urn:ci"),
            ("type", "io.releaseledger.deploy.removed.v1"),
            ("time", "2026-08-01T12:00:00Z"),
            ("datacontenttype", "application/json"),
            extra,
        ];
        let attributes = attributes.map(|(name, value)| (name, value.to_owned()));
        Envelope::from_parts(attributes, br#"{"environment": "dev", "service": "web"}"#)
    };
    assert!(parts(("comexample", "Euro \u{20ac} \u{1f600}")).is_ok());
    for wrong in [("id", "2"), ("data", "{}"), ("com-example", "a"), ("comexample", "a\nb")] {
        assert!(parts(wrong).is_err(), "{wrong:?}");
    }
}
