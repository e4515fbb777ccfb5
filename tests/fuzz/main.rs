//! Fuzzing of every parser of untrusted text: no panic, and properties of what is accepted.
//!
//! Each target is a test. Without instrumentation it replays its corpus (`__fuzz__/TARGET/corpus` and `crashes`) and
//! runs briefly with random choices. `ops/fuzz` runs it with libFuzzer, guided by coverage. The bytes of an input are
//! choices (`choices`), by which a sample is edited (`edit`): most inputs are nearly valid.

mod access;
mod cdevents;
mod check;
mod choices;
mod codec;
mod domain;
mod edit;
mod header;
mod hooks;
mod imports;
mod large;
mod samples;

/// Number of random inputs of a target when tests run.
const ITERATIONS: usize = 3000;

/// Maximum number of bytes of a random input.
const MAX_INPUT_BYTES: usize = 512;

/// Declares the targets: the name, and the property that every input has.
macro_rules! targets {
    ($($name:ident: $property:path;)*) => { $(
        #[test]
        fn $name() {
            let target = bolero::check!().with_iterations(ITERATIONS).with_max_len(MAX_INPUT_BYTES);
            target.for_each(|bytes: &[u8]| check::check(stringify!($name), bytes, $property));
        }
    )* };
}

targets! {
    events: codec::event;
    stored_entries: codec::stored_entry;
    batches: codec::batch;
    attributes: codec::attribute;
    policies: codec::policy;
    origins: codec::origin;
    packed_bytes: codec::packed;
    cdevents_bare: cdevents::bare;
    cdevents_in_cloudevents: cdevents::in_cloudevents;
    cdevents_in_batches: cdevents::in_batch;
    cdevents_written: cdevents::written;
    hooks_github: hooks::github;
    hooks_gitlab: hooks::gitlab;
    hooks_argocd: hooks::argocd;
    hooks_flux: hooks::flux;
    hooks_alertmanager: hooks::alertmanager;
    hooks_generic: hooks::generic;
    hooks_signatures: hooks::signature;
    exports_github: imports::github;
    exports_gitlab: imports::gitlab;
    exports_cdviz: imports::cdviz;
    exports_csv: imports::csv;
    exports_packed: imports::packed;
    artifacts: domain::artifact;
    points: domain::point;
    words: domain::words;
    api_tokens: access::api_token;
    mistyped_api_tokens: access::mistyped_api_token;
    issuer_tokens: access::issuer_token;
    unsigned_issuer_tokens: access::unsigned_issuer_token;
    key_sets: access::key_set;
    authorization_headers: header::authorization;
}
