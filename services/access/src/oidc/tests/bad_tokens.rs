//! Tokens that are refused, each with the expected error. All that can be signed are signed with a key of the issuer,
//! so that nothing but the named fault is wrong.

use serde_json::{Value, json};

use super::support::{AUDIENCE, Issuer, KEYS, NOW, Pair, base64, claims, good, header, hmac_token};
use crate::oidc::OidcError::{
    self, Algorithm, Audience, Expired, LongLived, NotAToken, NotYetValid, Signature,
};
use crate::oidc::OidcError::{TooLarge, UnknownIssuer, UnknownKey};

/// Name of a case, the token and the error.
type Case = (String, String, OidcError);

fn case(name: impl Into<String>, token: impl Into<String>, error: OidcError) -> Case {
    (name.into(), token.into(), error)
}

fn missing(name: &str) -> OidcError {
    OidcError::MissingClaim(name.into())
}

fn invalid(name: &str) -> OidcError {
    OidcError::InvalidClaim(name.into())
}

/// Signs texts with the key `ec`.
fn sign(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    KEYS.ec.token("ES256", header, claims)
}

/// Returns a good text of claims in which `old` is replaced.
fn edited(url: &str, old: &str, new: &str) -> String {
    let text = claims(url).to_string();
    assert!(text.contains(old), "{old}");
    text.replacen(old, new, 1)
}

#[tokio::test]
async fn a_bad_token_is_refused_for_the_reason_that_is_wrong() {
    let issuer = Issuer::start().await;
    let verifier = issuer.verifier();
    assert!(verifier.verify(&good(&issuer.url)).await.is_ok());
    let url = issuer.url.as_str();
    let cases = [
        forms(url),
        encodings(url),
        headers(url),
        algorithms(url),
        secrets(url),
        signatures(url),
        issuers(url),
        audiences(url),
        times(url),
        subjects(url),
        documents(url),
    ]
    .concat();
    assert!(cases.len() > 250, "{}", cases.len());
    let mut wrong = Vec::new();
    for (name, token, error) in &cases {
        let found = verifier.verify(token).await;
        let is_silent = found.as_ref().err().is_none_or(|error| !error.is_temporary());
        if found.as_ref().err() != Some(error) || !is_silent {
            wrong.push(format!("{name}: expected {error:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(verifier.verify(&good(&issuer.url)).await.is_ok());
}

/// Texts that are not three parts.
fn forms(url: &str) -> Vec<Case> {
    let good = good(url);
    let parts: Vec<_> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    vec![
        case("empty", "", NotAToken),
        case("a word", "token", NotAToken),
        case("dots", "..", NotAToken),
        case("many dots", ".".repeat(16 * 1024), NotAToken),
        case("2 parts", format!("{header}.{claims}"), NotAToken),
        case("1 part", header, NotAToken),
        case("4 parts", format!("{good}.{signature}"), NotAToken),
        case("5 parts", format!("{good}.a.b"), NotAToken),
        case("a dot at the end", format!("{good}."), NotAToken),
        case("a dot at the start", format!(".{good}"), NotAToken),
        case("an empty header", format!(".{claims}.{signature}"), NotAToken),
        case("empty claims", format!("{header}..{signature}"), NotAToken),
        case("an empty signature", format!("{header}.{claims}."), NotAToken),
        case("1 MiB", "a".repeat(1 << 20), TooLarge),
        case("1 MiB of claims", sign(self::header("ES256", "ec").to_string(), " ".repeat(1 << 20)), TooLarge),
        case("one byte too many", "a".repeat(16 * 1024 + 1), TooLarge),
        case("with its scheme", format!("Bearer {good}"), NotAToken),
        case("an API token", "rl_0123456789abcdef_00", NotAToken),
        case("JSON serialization", json!({"payload": claims, "protected": header}).to_string(), NotAToken),
    ]
}

/// Parts that are not canonical base64url.
fn encodings(url: &str) -> Vec<Case> {
    let good = good(url);
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (head, body) = signed.split_once('.').expect("three parts");
    // A signature of 64 bytes leaves 4 unused bits in its last character, of which a canonical text sets none.
    let (start, last) = signature.split_at(signature.len() - 1);
    let next = char::from(last.as_bytes()[0] + 1);
    let spaced = format!("{} {}", &good[..20], &good[20..]);
    let header = header("ES256", "ec").to_string();
    // The base64url of these claims contains `-`.
    let standard = sign(header, "{\"a\":\"~~~\"}").replace('-', "+").replace('_', "/");
    vec![
        case("padding after the signature", format!("{good}=="), NotAToken),
        case("padding after the header", format!("{head}=.{body}.{signature}"), NotAToken),
        case("padding after the claims", format!("{head}.{body}==.{signature}"), NotAToken),
        case("unused bits", format!("{signed}.{start}{next}"), NotAToken),
        case("the standard alphabet", standard, NotAToken),
        case("a line feed at the end", format!("{good}\n"), NotAToken),
        case("a carriage return at the end", format!("{good}\r\n"), NotAToken),
        case("a space at the start", format!(" {good}"), NotAToken),
        case("a space at the end", format!("{good} "), NotAToken),
        case("a space inside", spaced, NotAToken),
        case("a NUL at the end", format!("{good}\0"), NotAToken),
        case("a letter outside of ASCII", format!("{good}\u{e9}"), NotAToken),
        case("percent encoding", good.replace('.', "%2E"), NotAToken),
        case("in quotes", format!("\"{good}\""), NotAToken),
    ]
}

/// Headers with parameters that are not allowed.
fn headers(url: &str) -> Vec<Case> {
    let claims = claims(url).to_string();
    let with = |name: &str, value: Value| {
        let mut header = header("ES256", "ec");
        header[name] = value;
        sign(header.to_string(), &claims)
    };
    let refused = OidcError::Header;
    let keys_url = format!("{url}/keys");
    let mut cases = vec![
        case("crit", with("crit", json!(["exp"])), refused("crit")),
        case("empty crit", with("crit", json!([])), refused("crit")),
        case("b64 false", with("b64", json!(false)), refused("b64")),
        case("b64 true", with("b64", json!(true)), refused("b64")),
        case("jku", with("jku", json!(keys_url)), refused("jku")),
        case("x5u", with("x5u", json!(keys_url)), refused("x5u")),
        case("x5c", with("x5c", json!(["MII"])), refused("x5c")),
        case("jwk", with("jwk", KEYS.ec.jwk("ec")), refused("jwk")),
        case("kid a number", with("kid", json!(1)), refused("kid")),
        case("kid null", with("kid", json!(null)), refused("kid")),
        case("kid a list", with("kid", json!(["ec"])), refused("kid")),
        case("kid unknown", with("kid", json!("other")), UnknownKey),
        case("kid empty", with("kid", json!("")), UnknownKey),
        case("kid in upper case", with("kid", json!("EC")), UnknownKey),
        case("kid a path", with("kid", json!("../../dev/null")), UnknownKey),
        case("kid a query", with("kid", json!("' OR 1=1 --")), UnknownKey),
    ];
    for kind in ["JWE", "dpop+jwt", "logout+jwt", "secevent+jwt", "kb+jwt", "JWT ", "", "application/json"] {
        cases.push(case(format!("typ {kind:?}"), with("typ", json!(kind)), refused("typ")));
    }
    cases.push(case("typ a list", with("typ", json!(["JWT"])), refused("typ")));
    cases.push(case("typ null", with("typ", json!(null)), refused("typ")));
    let own = Pair::ec(false);
    let mut brought = header("ES256", "mine");
    brought["jwk"] = own.jwk("mine");
    cases.push(case("its own key", own.token("ES256", brought.to_string(), &claims), refused("jwk")));
    let rsa = KEYS.rsa.token("RS256", json!({"alg": "RS256"}).to_string(), &claims);
    cases.push(case("no kid, and several keys", rsa, UnknownKey));
    cases
}

/// Algorithms that are not allowed, or do not fit the key.
fn algorithms(url: &str) -> Vec<Case> {
    let claims = claims(url).to_string();
    let mut cases = Vec::new();
    for name in [
        "none", "None", "NONE", "nOnE", "", "es256", "ES256 ", "ES256K", "ES512", "RSA", "A128KW", "Ed448",
        "dir",
    ] {
        let token = sign(header(name, "ec").to_string(), &claims);
        cases.push(case(format!("alg {name:?}"), token.clone(), Algorithm));
        if name.eq_ignore_ascii_case("none") {
            let (signed, _) = token.rsplit_once('.').expect("three parts");
            cases.push(case(format!("alg {name:?} without a signature"), format!("{signed}."), Algorithm));
        }
    }
    for value in [json!(null), json!(256), json!(["ES256"]), json!({"alg": "ES256"})] {
        let mut header = header("ES256", "ec");
        header["alg"] = value.clone();
        cases.push(case(format!("alg {value}"), sign(header.to_string(), &claims), Algorithm));
    }
    cases.push(case("alg missing", sign(json!({"kid": "ec"}).to_string(), &claims), Algorithm));
    for (algorithm, key) in [
        ("RS256", "ec"),
        ("EdDSA", "ec"),
        ("ES384", "ec"),
        ("ES256", "ec384"),
        ("ES256", "rsa"),
        ("ES256", "ed"),
        ("PS256", "ed"),
    ] {
        let token = sign(header(algorithm, key).to_string(), &claims);
        cases.push(case(format!("{algorithm} with the key {key}"), token, Algorithm));
    }
    for algorithm in ["PS256", "RS384", "RS512"] {
        let token = KEYS.rsa.token(algorithm, header(algorithm, "rsa256").to_string(), &claims);
        cases.push(case(format!("{algorithm} with a key for RS256 only"), token, Algorithm));
    }
    cases
}

/// Tokens that take a public key as a secret.
fn secrets(url: &str) -> Vec<Case> {
    let claims = claims(url).to_string();
    let mut cases = Vec::new();
    for (name, secret) in KEYS.public_texts() {
        for algorithm in ["HS256", "HS384", "HS512"] {
            let token = hmac_token(algorithm, &secret, &header(algorithm, "rsa").to_string(), &claims);
            cases.push(case(format!("{algorithm} with {name} as the secret"), token, Algorithm));
        }
        let token = hmac_token("HS256", &secret, &header("RS256", "rsa").to_string(), &claims);
        cases.push(case(format!("HMAC as RS256 with {name} as the secret"), token, Signature));
    }
    cases
}

/// Signatures that are wrong.
fn signatures(url: &str) -> Vec<Case> {
    let (header, claims) = (header("ES256", "ec").to_string(), claims(url).to_string());
    let signed = format!("{}.{}", base64(&header), base64(&claims));
    let signature = KEYS.ec.sign("ES256", &signed);
    let with = |signature: &[u8]| format!("{signed}.{}", base64(signature));
    let other = good(&format!("{url}/other"));
    let (other_signed, other_signature) = other.rsplit_once('.').expect("three parts");
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order = hex::decode(order).expect("hexadecimal");
    let mut one_bit = signature.clone();
    one_bit[40] ^= 1;
    let rsa = |signature: Vec<u8>| {
        let signed = format!("{}.{}", base64(self::header("RS256", "rsa").to_string()), base64(&claims));
        format!("{signed}.{}", base64(signature))
    };
    let rsa_signed = format!("{}.{}", base64(self::header("RS256", "rsa").to_string()), base64(&claims));
    let rsa_signature = KEYS.rsa.sign("RS256", &rsa_signed);
    let ed_header = self::header("EdDSA", "ed").to_string();
    let ed_signed = format!("{}.{}", base64(&ed_header), base64(&claims));
    vec![
        case("of another key", Pair::ec(false).token("ES256", &header, &claims), Signature),
        case("truncated", with(&signature[..63]), Signature),
        case("half", with(&signature[..32]), Signature),
        case("one byte", with(&signature[..1]), Signature),
        case("with a byte more", with(&[&signature[..], &[0]].concat()), Signature),
        case("one bit changed", with(&one_bit), Signature),
        case("halves swapped", with(&[&signature[32..], &signature[..32]].concat()), Signature),
        case("of another token", format!("{signed}.{other_signature}"), Signature),
        case("claims of another token", format!("{other_signed}.{}", base64(&signature)), UnknownIssuer),
        case("DER", with(&KEYS.ec.sign("DER", &signed)), Signature),
        case("all zero", with(&[0; 64]), Signature),
        case("the order of the curve", with(&order.repeat(2)), Signature),
        case("r zero", with(&[&[0; 32][..], &signature[32..]].concat()), Signature),
        case("s zero", with(&[&signature[..32], &[0; 32]].concat()), Signature),
        case("all ones", with(&[0xff; 64]), Signature),
        case("of the decoded text", with(&KEYS.ec.sign("ES256", &format!("{header}.{claims}"))), Signature),
        case("of the claims only", with(&KEYS.ec.sign("ES256", &base64(&claims))), Signature),
        case("RSA truncated", rsa(rsa_signature[..255].to_vec()), Signature),
        case("RSA with a zero before", rsa([&[0], &rsa_signature[..]].concat()), Signature),
        case("RSA zero", rsa(vec![0; 256]), Signature),
        case("RSA one", rsa([vec![0; 255], vec![1]].concat()), Signature),
        case("RSA all ones", rsa(vec![0xff; 256]), Signature),
        case("PS256 as RS256", rsa(KEYS.rsa.sign("PS256", &rsa_signed)), Signature),
        case("RS512 as RS256", rsa(KEYS.rsa.sign("RS512", &rsa_signed)), Signature),
        case("Ed25519 zero", format!("{ed_signed}.{}", base64([0; 64])), Signature),
        case(
            "Ed25519 of ECDSA",
            format!("{ed_signed}.{}", base64(KEYS.ec.sign("ES256", &ed_signed))),
            Signature,
        ),
    ]
}

/// Claims that are changed in one member, each with the error.
fn changed(url: &str, changes: &[(&str, Option<Value>, OidcError)]) -> Vec<Case> {
    let change = |(name, value, error): &(&str, Option<Value>, OidcError)| {
        let mut claims = claims(url);
        let members = claims.as_object_mut().expect("an object");
        members.remove(*name);
        members.extend(value.clone().map(|value| ((*name).to_owned(), value)));
        let title =
            value.as_ref().map_or_else(|| format!("{name} missing"), |value| format!("{name} {value:.60}"));
        case(title, sign(header("ES256", "ec").to_string(), claims.to_string()), error.clone())
    };
    changes.iter().map(change).collect()
}

fn issuers(url: &str) -> Vec<Case> {
    let port = url.rsplit_once(':').expect("a port").1;
    changed(
        url,
        &[
            ("iss", None, missing("iss")),
            ("iss", Some(json!(null)), invalid("iss")),
            ("iss", Some(json!(7)), invalid("iss")),
            ("iss", Some(json!([url])), invalid("iss")),
            ("iss", Some(json!("")), UnknownIssuer),
            ("iss", Some(json!(format!("{url}/"))), UnknownIssuer),
            ("iss", Some(json!(format!(" {url}"))), UnknownIssuer),
            ("iss", Some(json!(format!("{url}\0"))), UnknownIssuer),
            ("iss", Some(json!(url.to_uppercase())), UnknownIssuer),
            ("iss", Some(json!(format!("{url}.example"))), UnknownIssuer),
            ("iss", Some(json!(format!("http://localhost:{port}"))), UnknownIssuer),
            ("iss", Some(json!("https://token.actions.githubusercontent.com")), UnknownIssuer),
            ("iss", Some(json!("release-ledger")), UnknownIssuer),
        ],
    )
}

fn audiences(url: &str) -> Vec<Case> {
    changed(
        url,
        &[
            ("aud", None, missing("aud")),
            ("aud", Some(json!("https://other.example")), Audience),
            ("aud", Some(json!(format!("{AUDIENCE}/"))), Audience),
            ("aud", Some(json!(AUDIENCE.to_uppercase())), Audience),
            ("aud", Some(json!(&AUDIENCE[..AUDIENCE.len() - 1])), Audience),
            ("aud", Some(json!(format!("other {AUDIENCE}"))), Audience),
            ("aud", Some(json!("")), Audience),
            ("aud", Some(json!("*")), Audience),
            ("aud", Some(json!([])), Audience),
            ("aud", Some(json!([""])), Audience),
            ("aud", Some(json!(["a", "b"])), Audience),
            ("aud", Some(json!([[AUDIENCE]])), invalid("aud")),
            ("aud", Some(json!([AUDIENCE, 7])), invalid("aud")),
            ("aud", Some(json!(null)), invalid("aud")),
            ("aud", Some(json!(7)), invalid("aud")),
            ("aud", Some(json!({AUDIENCE: true})), invalid("aud")),
        ],
    )
}

fn times(url: &str) -> Vec<Case> {
    let mut cases = changed(
        url,
        &[
            ("exp", None, missing("exp")),
            ("exp", Some(json!(NOW - 60)), Expired),
            ("exp", Some(json!(NOW - 86_400)), Expired),
            ("exp", Some(json!(0)), Expired),
            ("exp", Some(json!(NOW + 86_461)), LongLived),
            ("exp", Some(json!(NOW * 1000)), LongLived),
            ("exp", Some(json!(u64::MAX)), LongLived),
            ("exp", Some(json!(i64::MAX)), LongLived),
            ("exp", Some(json!((NOW + 300).to_string())), invalid("exp")),
            ("exp", Some(json!(1_800_000_300.5)), invalid("exp")),
            ("exp", Some(json!(1_800_000_300.0)), invalid("exp")),
            ("exp", Some(json!(-1)), invalid("exp")),
            ("exp", Some(json!(1e300)), invalid("exp")),
            ("exp", Some(json!(null)), invalid("exp")),
            ("exp", Some(json!(true)), invalid("exp")),
            ("exp", Some(json!([NOW + 300])), invalid("exp")),
            ("nbf", Some(json!(NOW + 61)), NotYetValid),
            ("nbf", Some(json!(u64::MAX)), NotYetValid),
            ("nbf", Some(json!("0")), invalid("nbf")),
            ("nbf", Some(json!(null)), invalid("nbf")),
            ("nbf", Some(json!(-1)), invalid("nbf")),
            ("iat", Some(json!(NOW + 61)), NotYetValid),
            ("iat", Some(json!(NOW * 1000)), NotYetValid),
            ("iat", Some(json!("now")), invalid("iat")),
            ("iat", Some(json!(0.5)), invalid("iat")),
        ],
    );
    let header = header("ES256", "ec").to_string();
    let exp = format!("\"exp\":{}", NOW + 300);
    for (number, error) in [
        ("1e400", NotAToken),
        ("99999999999999999999999999", invalid("exp")),
        ("01800000300", NotAToken),
        ("+1800000300", NotAToken),
        ("0x6b49d3ac", NotAToken),
        ("Infinity", NotAToken),
        ("NaN", NotAToken),
        ("1.8000003e9", invalid("exp")),
        ("-0", invalid("exp")),
    ] {
        let claims = edited(url, &exp, &format!("\"exp\":{number}"));
        cases.push(case(format!("exp written as {number}"), sign(&header, claims), error));
    }
    cases
}

fn subjects(url: &str) -> Vec<Case> {
    changed(
        url,
        &[
            ("sub", None, missing("sub")),
            ("sub", Some(json!("")), invalid("sub")),
            ("sub", Some(json!("  ")), invalid("sub")),
            ("sub", Some(json!(7)), invalid("sub")),
            ("sub", Some(json!(null)), invalid("sub")),
            ("sub", Some(json!(["a"])), invalid("sub")),
            ("sub", Some(json!({"a": "b"})), invalid("sub")),
            ("sub", Some(json!("a\u{0}")), invalid("sub")),
            ("sub", Some(json!("a\nb")), invalid("sub")),
            ("sub", Some(json!("a\u{1b}[31m")), invalid("sub")),
            ("sub", Some(json!("a\u{202e}b")), invalid("sub")),
            ("sub", Some(json!("a\u{200b}")), invalid("sub")),
            ("sub", Some(json!(" a")), invalid("sub")),
            ("sub", Some(json!("a ")), invalid("sub")),
            ("sub", Some(json!("a".repeat(513))), invalid("sub")),
        ],
    )
}

/// Headers and claims that are not JSON objects with one meaning.
fn documents(url: &str) -> Vec<Case> {
    let (header, claims) = (header("ES256", "ec").to_string(), claims(url).to_string());
    let iss = format!("\"iss\":\"{url}\"");
    let deep = |depth: usize| {
        let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        edited(url, "{", &format!("{{\"a\":{nested},"))
    };
    let invalid_utf8 = [&claims.as_bytes()[..claims.len() - 1], b",\"a\":\"\xff\xfe\"}"].concat();
    let mut cases = vec![
        case("claims with invalid UTF-8", sign(&header, invalid_utf8), NotAToken),
        case("header with invalid UTF-8", sign(b"{\"alg\":\"ES256\",\"kid\":\"\xff\"}", &claims), NotAToken),
        case(
            "claims with UTF-16",
            sign(&header, claims.bytes().flat_map(|byte| [byte, 0]).collect::<Vec<_>>()),
            NotAToken,
        ),
        case("nested 200 deep", sign(&header, deep(200)), NotAToken),
        case("nested 4000 deep", sign(&header, deep(4000)), NotAToken),
        case(
            "header nested 1000 deep",
            sign(format!("{}{}", "[".repeat(1000), "]".repeat(1000)), &claims),
            NotAToken,
        ),
        case("a NUL in a text", sign(&header, edited(url, "shop/web", "shop\0web")), NotAToken),
        case("a NUL after the claims", sign(&header, format!("{claims}\0")), NotAToken),
        case("a byte order mark", sign(&header, format!("\u{feff}{claims}")), NotAToken),
        case("a lone surrogate", sign(&header, edited(url, "shop/web", "\\ud800")), NotAToken),
        case("claims repeated", sign(&header, format!("{claims}{claims}")), NotAToken),
        case("claims truncated", sign(&header, &claims[..claims.len() - 1]), NotAToken),
        case("a comment", sign(&header, format!("{claims}//")), NotAToken),
        case("iss twice", sign(&header, edited(url, &iss, &format!("{iss},{iss}"))), NotAToken),
        case(
            "iss twice, once escaped",
            sign(&header, edited(url, &iss, &format!("{iss},\"\\u0069ss\":\"a\""))),
            NotAToken,
        ),
        case("exp twice", sign(&header, edited(url, "{", "{\"exp\":1,")), NotAToken),
        case("aud twice", sign(&header, edited(url, "{", "{\"aud\":\"a\",")), NotAToken),
        case("sub twice", sign(&header, edited(url, "{", "{\"sub\":\"root\",")), NotAToken),
        case(
            "a member twice, inside",
            sign(&header, edited(url, "{", "{\"a\":{\"b\":1,\"b\":2},")),
            NotAToken,
        ),
        case("alg twice", sign(header.replacen('{', "{\"alg\":\"none\",", 1), &claims), NotAToken),
        case("kid twice", sign(header.replacen('{', "{\"kid\":\"a\",", 1), &claims), NotAToken),
    ];
    for text in ["null", "[]", "1", "\"a\"", "true", "", " ", "{", "[{}]", "{'a':1}", "{\"a\":1,}"] {
        cases.push(case(format!("claims {text:?}"), sign(&header, text), NotAToken));
        cases.push(case(format!("header {text:?}"), sign(text, &claims), NotAToken));
    }
    cases.push(case("empty claims object", sign(&header, "{}"), missing("iss")));
    cases.push(case("empty header object", sign("{}", &claims), Algorithm));
    cases
}

#[test]
fn messages_contain_nothing_of_the_token() {
    for error in [NotAToken, TooLarge, Algorithm, UnknownIssuer, UnknownKey, Signature, Audience, Expired] {
        assert!(error.to_string().is_ascii());
        assert!(!error.is_temporary());
    }
    assert!(OidcError::KeysUnavailable.is_temporary());
    assert_eq!(missing("sub").to_string(), "the token has no claim sub");
    assert_eq!(Expired.to_string(), "the token has expired");
}
