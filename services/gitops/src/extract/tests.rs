//! Files in the forms that GitOps tools read.

use super::*;
use crate::document::{Format, parse};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn lane(service: Option<&str>) -> PathLane {
    PathLane {
        environment: "production".parse().expect("a name"),
        service: service.map(|service| service.parse().expect("a name")),
        target: None,
    }
}

/// Returns what a file states, as `service version artifact detail warnings`, or the error.
fn stated(extraction: &Extraction, service: Option<&str>, text: &str) -> Vec<String> {
    let text = text.replace("DIGEST", DIGEST);
    let documents = parse(Format::Yaml, text.as_bytes()).expect("YAML");
    let stated = match extract(extraction, &lane(service), &documents) {
        Ok(stated) => stated,
        Err(detail) => return vec![format!("unreadable: {detail}")],
    };
    let phrase = |stated: Stated| match stated.pin {
        Err(detail) => format!("unknown: {detail}"),
        Ok(pin) => {
            let artifact = pin.artifact.map_or(String::new(), |artifact| artifact.as_str().to_owned());
            let detail = pin.detail.map_or(String::new(), |detail| detail.to_string());
            let service = stated.service.unwrap_or_default();
            let warnings = "!".repeat(stated.warnings.len());
            let parts = [service.as_str(), pin.version.as_str(), &artifact, &detail, &warnings];
            parts
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
                .replace(DIGEST, "DIGEST")
        }
    };
    stated.into_iter().map(phrase).collect()
}

fn by_field(field: &str, form: ValueForm) -> Extraction {
    Extraction::Field { field: field.parse().expect("a field"), form }
}

#[test]
fn a_field_states_a_version_or_an_image() {
    let tag = by_field("image.tag", ValueForm::Version);
    assert_eq!(stated(&tag, None, "image: {tag: v1}"), ["v1"]);
    assert_eq!(stated(&tag, None, "image: {tag: 1.10}"), ["1.10 !"]);
    assert!(stated(&tag, None, "image: {}").is_empty());
    assert!(stated(&tag, None, "").is_empty());
    let image = by_field("spec.containers[name=web].image", ValueForm::Image);
    let text =
        "spec: {containers: [{name: log, image: log:v9}, {name: web, image: \"r.example/web:v1@DIGEST\"}]}";
    assert_eq!(stated(&image, None, text), ["v1 r.example/web@DIGEST"]);
}

#[test]
fn a_field_that_is_not_clear_leaves_the_release_unknown() {
    let tag = by_field("image.tag", ValueForm::Version);
    for text in
        ["image: {tag: }", "image: {tag: \"\"}", "image: web:v1", "image: {tag: a}\n---\nimage: {tag: b}"]
    {
        let found = stated(&tag, None, text);
        assert!(found.len() == 1 && found[0].starts_with("unknown"), "{text} {found:?}");
    }
    assert_eq!(stated(&tag, None, "image: {tag: a}\n---\nimage: {tag: a}"), ["a"]);
    for text in ["just text", "- image: {tag: a}"] {
        assert!(stated(&tag, None, text)[0].starts_with("unreadable"), "{text}");
    }
}

#[test]
fn kustomize_images_are_services_or_that_of_the_path() {
    let text = "
kind: Kustomization
images:
- {name: registry.example/web, newTag: v1}
- {name: api, newName: mirror.example/api, digest: DIGEST}
- {name: worker, newTag: v2, digest: DIGEST}
";
    let all = Extraction::Kustomize { image: None };
    let expected = ["web v1", "api DIGEST mirror.example/api@DIGEST", "worker v2 worker@DIGEST"];
    assert_eq!(stated(&all, None, text), expected);
    assert_eq!(stated(&all, Some("web"), text), ["v1"]);
    assert!(stated(&all, Some("other"), text)[0].starts_with("unreadable"));
    let one = Extraction::Kustomize { image: Some("registry.example/web".to_owned()) };
    assert_eq!(stated(&one, Some("other"), text), ["v1"]);
    assert_eq!(stated(&one, None, text), ["web v1"]);
    assert_eq!(stated(&all, Some("other"), "images: [{name: web, newTag: v1}]"), ["v1"]);
    assert!(stated(&all, Some("web"), "resources: [x]").is_empty());
    assert!(stated(&all, Some("web"), "images: [{name: web, newName: x}]")[0].starts_with("unknown"));
}

#[test]
fn helm_values_state_a_tag_and_perhaps_a_digest() {
    for (text, expected) in [
        ("image: {repository: r/web, tag: v1}", vec!["v1"]),
        (
            "image: {registry: r.example, repository: web, tag: v1, digest: DIGEST}",
            vec!["v1 r.example/web@DIGEST"],
        ),
        ("image: {tag: \"\", digest: DIGEST}", vec!["DIGEST DIGEST"]),
        ("image: {tag: 1.10}", vec!["1.10 !"]),
        ("image: r.example/web:v1", vec!["v1"]),
        ("image: {repository: web}", vec![]),
        ("replicas: 3", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(stated(&Extraction::Helm, None, text), expected, "{text}");
    }
    for text in
        ["image: {tag: }", "image: {tag: \"\"}", "image: {tag: [v1]}", "image: [v1]", "a: 1\n---\nb: 2"]
    {
        let found = stated(&Extraction::Helm, None, text);
        assert!(found.len() == 1 && found[0].starts_with("unknown"), "{text} {found:?}");
    }
}

#[test]
fn an_argo_cd_application_states_the_revision_of_what_is_deployed() {
    let application = |spec: &str| format!("kind: Application\nmetadata: {{name: web}}\nspec: {{{spec}}}\n");
    for (spec, expected) in [
        ("source: {path: a, targetRevision: v1.2.3}", "web v1.2.3"),
        ("source: {path: a, targetRevision: main}", "web main !"),
        ("source: {chart: web, targetRevision: 1.x}", "web 1.x !"),
        (
            "sources: [{chart: web, targetRevision: 1.2.3}, {repoURL: u, ref: values, targetRevision: main}]",
            "web 1.2.3",
        ),
        ("sources: [{path: a, targetRevision: v1}, {path: b, targetRevision: v1}]", "web v1"),
    ] {
        assert_eq!(stated(&Extraction::ArgoCd, None, &application(spec)), [expected], "{spec}");
    }
    for spec in [
        "source: {path: a}",
        "sources: [{path: a, targetRevision: v1}, {path: b, targetRevision: v2}]",
        "sources: [{ref: values, targetRevision: main}]",
        "",
    ] {
        assert!(stated(&Extraction::ArgoCd, None, &application(spec))[0].starts_with("unknown"), "{spec}");
    }
    assert!(stated(&Extraction::ArgoCd, None, "kind: AppProject").is_empty());
    let other =
        format!("apiVersion: app.k8s.io/v1beta1\n{}", application("source: {path: a, targetRevision: v1}"));
    assert!(stated(&Extraction::ArgoCd, None, &other).is_empty());
}

#[test]
fn a_flux_helm_release_states_its_image_or_its_chart() {
    let release = |spec: &str| format!("kind: HelmRelease\nmetadata: {{name: web}}\nspec: {{{spec}}}\n");
    for (spec, expected) in [
        ("chart: {spec: {chart: web, version: 1.2.3}}", "web 1.2.3"),
        ("chart: {spec: {version: 1.2.3}}, values: {image: {tag: v7}}", "web v7 chart 1.2.3"),
        ("chart: {repository: r, name: web, version: 1.2.3}", "web 1.2.3"),
        ("chartRef: {name: web}, values: {image: {tag: v7}}", "web v7"),
        ("chart: {spec: {version: \">=1.0 <2\"}}", "web >=1.0 <2 !"),
        ("chart: {spec: {version: 1.2.3}}, values: {image: {tag: \"\"}}", "web 1.2.3"),
    ] {
        assert_eq!(stated(&Extraction::Flux, None, &release(spec)), [expected], "{spec}");
    }
    for spec in
        ["chart: {spec: {chart: web}}", "values: {image: {tag: \"${TAG}\"}}, chart: {spec: {version: 1.0.0}}"]
    {
        assert!(stated(&Extraction::Flux, None, &release(spec))[0].starts_with("unknown"), "{spec}");
    }
}
