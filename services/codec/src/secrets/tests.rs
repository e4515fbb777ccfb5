//! Tests of the search for secrets: a text of every kind, and texts that are none.

use proptest::prelude::*;

use super::examples::examples;
use super::*;

#[test]
fn a_secret_of_every_kind_is_found() {
    for (kind, text) in examples() {
        let found = |text: &str| find(text).map(SecretKind::name);
        assert_eq!(found(&text), Some(kind), "{text}");
        for around in [format!("a reason: {text} (sic)"), format!("é\n{text}\té"), format!("\"{text}\"")] {
            assert_eq!(found(&around), Some(kind), "{around}");
        }
    }
    for kind in SecretKind::ALL {
        assert!(examples().iter().any(|(found, _)| *found == kind.name()), "no example of {kind}");
    }
}

#[test]
fn a_member_is_found_by_its_name() {
    assert_eq!(find_in_name("private_key_id"), Some(SecretKind::GoogleServiceAccount));
    assert_eq!(find_in_name("private_key_ids"), None);
}

/// Each text lacks one thing that its form requires.
#[test]
fn what_only_resembles_a_secret_is_none() {
    let forty = "0123456789abcdefABCDEFabcdefabcdefabcdef";
    for text in [
        "-----BEGIN CERTIFICATE-----\nMIIE",
        "-----BEGIN PUBLIC KEY-----",
        "the private_key_id changed",
        "AKIAIOSFODNN7EXAMPL",
        "AKIAIOSFODNN7EXAMPLES",
        "XAKIAIOSFODNN7EXAMPLE",
        "rotate glpat- and ghp_ tokens",
        "gldt-frontend-for-the-search-service",
        "hvs.a-service-of-the-vault.example",
        "hvs.internal.example:8200",
        "npm_config_registry",
        "sk_live_payments_processor_service",
        "xoxb-",
        "SKU-12345678901234567890123456789012",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0",
        "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiIxIn0.abc",
        "eyJub3QganNvbg.a.b",
        "12:30:AA",
        "https://host:8080/@scope/package",
        "https://registry.example:5000/search-api@sha256:0123",
        "docker://alpine:3.20@sha256:0123",
        "ssh://git@github.com/org/app.git",
        "https://user:@host/",
        "https://x-access-token:***@github.com/org/app",
        "https://user:xxxxx@host",
        "https://host:80, ask ops@team.example",
        "http://[::1]:80/a",
        "AccountKey=short",
        "?sig=short%3D",
        forty,
        &format!("ghp_{}", &forty[..35]),
        &format!("design={forty}abc="),
        &format!("url_0123456789abcdef_{forty}{forty}"),
    ] {
        assert_eq!(find(text), None, "{text}");
    }
}

/// Texts that are made to be compared at every position: a search in quadratic time would take minutes.
#[test]
fn the_time_is_linear() {
    for part in
        ["-----BEGIN ", "eyJ", "eyJ.", "-eyJ", "_eyJ.a.", "a://", "a://b:", "12345678:AA", "ghp_", "sig="]
    {
        let text = part.repeat(4_000_000 / part.len());
        assert_eq!(find(&text), None, "{part}");
    }
}

proptest! {
    #[test]
    fn digests_commits_and_uuids_are_none(
        sha256 in "(sha256|sha512|SHA256|md5)[:=-][0-9a-f]{64}([0-9a-f]{64})?",
        commit in "[0-9a-f]{40}",
        uuid in "(urn:uuid:)?[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        integrity in "sha(256-[A-Za-z0-9+/]{43}=|512-[A-Za-z0-9+/]{86}==)",
    ) {
        for text in [sha256, commit, uuid, integrity] {
            prop_assert_eq!(find(&text), None, "{}", text);
        }
    }

    #[test]
    fn references_versions_and_names_are_none(
        purl in "pkg:(npm|pypi|docker|github|golang)/(%40)?[a-z0-9._-]{1,20}/[a-z0-9._-]{1,30}@v?[0-9a-z.+-]{1,20}\
            (\\?repository_url=https://[a-z.]{1,20}(:[0-9]{1,5})?/[a-z/]{0,20})?",
        image in "[a-z0-9.-]{1,20}(:[0-9]{1,5})?(/[a-z0-9._-]{1,20}){1,3}(:[A-Za-z0-9_.-]{1,40})?@sha256:[0-9a-f]{64}",
        url in "(https?|ssh|git|oci)://([a-z]{1,8}@)?[a-z0-9.-]{1,30}(:[0-9]{1,5})?(/[A-Za-z0-9@:._~-]{0,20}){0,4}\
            (\\?[a-z]{1,8}=[A-Za-z0-9%._-]{0,20})?(#[a-z0-9-]{0,10})?",
        version in "v?[0-9]{1,4}\\.[0-9]{1,4}(\\.[0-9]{1,10})?(-(beta|rc|SNAPSHOT)[.0-9]{0,12})?(\\+[0-9a-f]{7,40})?",
        name in "[a-z0-9]{1,12}([._-][a-z0-9]{1,16}){0,8}",
        time in "2[0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?Z",
    ) {
        for text in [purl, image, url, version, name, time] {
            prop_assert_eq!(find(&text), None, "{}", text);
        }
    }

    #[test]
    fn no_text_makes_the_search_panic(
        text in ".{0,40}(-----BEGIN |eyJ|a://|:AA|sig=|AccountKey=|SG\\.|rl_|\"pr).{0,40}",
    ) {
        let _ = find(&text);
    }
}
