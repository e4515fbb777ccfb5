//! The variables that tell a command that it runs in a CI.

/// Returns the variables by which commands detect a CI, each with an empty value: a command with these runs outside of
/// any CI, wherever the tests run.
#[must_use]
pub fn no_ci() -> Vec<(&'static str, &'static str)> {
    let providers = include_str!("../../services/client/src/ci/providers.rs");
    let markers =
        providers.lines().filter_map(|line| line.trim().strip_prefix("marker: \"")?.strip_suffix("\","));
    markers.map(|name| (name, "")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_every_ci_are_known() {
        let names: Vec<_> = no_ci().into_iter().map(|(name, _)| name).collect();
        for name in ["GITHUB_ACTIONS", "BITBUCKET_BUILD_NUMBER", "TEAMCITY_VERSION", "TEKTON_TASK_RUN"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
    }
}
