//! A readable sample of each format: a service at two targets, one with slots, and a version with special characters.

use super::*;

#[test]
fn each_format_matches_its_sample() {
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
