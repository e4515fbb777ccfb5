//! Each format once, for people to read: a service of two targets, one with slots, and a version that no
//! tool should trip over.

use super::*;

#[test]
fn a_format_is_written_as_its_sample_is() {
    for (format, sample) in [
        (Format::Json, include_str!("samples/manifest.json")),
        (Format::Yaml, include_str!("samples/manifest.yaml")),
        (Format::Env, include_str!("samples/manifest.env")),
        (Format::Kustomize, include_str!("samples/kustomization.yaml")),
        (Format::HelmValues, include_str!("samples/values.yaml")),
    ] {
        assert_eq!(write(&two_targets(), format), sample, "{}", format.name());
    }
}
