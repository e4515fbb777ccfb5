//! Random texts, and good tokens that are changed at random: none is accepted, and none causes a panic.

use std::sync::LazyLock;

use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::support::{KEYS, base64, claims, good, header, verifier};
use crate::oidc::{KeySource, Verifier};

const ISSUER: &str = "https://issuer.example";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| verifier(ISSUER, KeySource::Fixed(KEYS.set())));
static GOOD: LazyLock<[String; 3]> = LazyLock::new(|| {
    let token = |pair: &super::support::Pair, algorithm: &str, key: &str| {
        pair.token(algorithm, header(algorithm, key).to_string(), claims(ISSUER).to_string())
    };
    [good(ISSUER), token(&KEYS.rsa, "RS256", "rsa"), token(&KEYS.ed, "EdDSA", "ed")]
});

fn is_accepted(token: &str) -> bool {
    RUNTIME.block_on(VERIFIER.verify(token)).is_ok()
}

#[test]
fn the_tokens_that_are_changed_are_good() {
    assert!(GOOD.iter().all(|token| is_accepted(token)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(!is_accepted(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn arbitrary_parts_are_refused(
        header in ".{0,80}",
        claims in ".{0,200}",
        signature in any::<[u8; 64]>(),
    ) {
        let header = if header.len() % 2 == 0 { self::header("ES256", "ec").to_string() } else { header };
        let token = format!("{}.{}.{}", base64(header), base64(claims), base64(signature));
        prop_assert!(!is_accepted(&token));
    }

    #[test]
    fn a_token_with_a_changed_character_is_refused(
        token in 0..3_usize,
        at in any::<prop::sample::Index>(),
        new in any::<char>(),
    ) {
        let mut text: Vec<_> = GOOD[token].chars().collect();
        let at = at.index(text.len());
        prop_assume!(text[at] != new);
        text[at] = new;
        prop_assert!(!is_accepted(&text.into_iter().collect::<String>()));
    }

    #[test]
    fn a_token_with_another_base64_character_is_refused(
        token in 0..3_usize,
        at in any::<prop::sample::Index>(),
        new in "[A-Za-z0-9_.-]",
    ) {
        let mut text = GOOD[token].clone();
        let at = at.index(text.len());
        prop_assume!(text[at..=at] != new);
        text.replace_range(at..=at, &new);
        prop_assert!(!is_accepted(&text));
    }

    #[test]
    fn a_token_with_a_part_removed_or_inserted_is_refused(
        token in 0..3_usize,
        from in any::<prop::sample::Index>(),
        length in 0..40_usize,
        new in "[A-Za-z0-9_.=-]{0,8}",
    ) {
        let text = &GOOD[token];
        let from = from.index(text.len());
        let end = (from + length).min(text.len());
        let changed = format!("{}{new}{}", &text[..from], &text[end..]);
        prop_assume!(changed != *text);
        prop_assert!(!is_accepted(&changed));
    }

    #[test]
    fn parts_of_different_tokens_do_not_fit_together(
        header in 0..3_usize,
        claims in 0..3_usize,
        signature in 0..3_usize,
    ) {
        prop_assume!(header != signature);
        let part = |token: usize, part: usize| GOOD[token].split('.').nth(part).expect("three parts");
        let mixed = format!("{}.{}.{}", part(header, 0), part(claims, 1), part(signature, 2));
        prop_assert!(!is_accepted(&mixed));
    }
}
