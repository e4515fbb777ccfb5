//! Lanes: the units that run one release at a time.

use std::fmt;

use crate::fold::Occupancy;
use crate::{EnvironmentName, ServiceName, TargetName};

/// A service at a target of an environment. A lane runs one release at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The part of the environment.
    pub target: TargetName,
}

impl fmt::Display for Lane {
    /// Writes `production/eu-west-1/search-api`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.environment, self.target, self.service)
    }
}

/// A lane as a report names it: with or without a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneRef {
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ServiceName,
    /// The part of the environment, if the report names one.
    pub target: Option<TargetName>,
}

impl LaneRef {
    /// Returns the lane of the same service at a target.
    #[must_use]
    pub fn at(&self, target: TargetName) -> Lane {
        Lane { environment: self.environment.clone(), service: self.service.clone(), target }
    }

    /// Returns true if the reference covers a lane: the same service in the same environment, at the named target, or
    /// at any target if none is named.
    #[must_use]
    pub fn covers(&self, lane: &Lane) -> bool {
        self.environment == lane.environment
            && self.service == lane.service
            && self.target.as_ref().is_none_or(|target| *target == lane.target)
    }
}

impl LaneRef {
    /// Returns the targets that the reference means, given the targets of its service with the use of their lanes: the
    /// named one. Without a target: those with an occupied lane; if there is none, those with a vacant lane; if there is
    /// none either, the default target.
    #[must_use]
    pub fn targets<'t>(
        &self,
        lanes: impl IntoIterator<Item = (&'t TargetName, Occupancy)>,
    ) -> Vec<TargetName> {
        if let Some(target) = &self.target {
            return vec![target.clone()];
        }
        let (mut occupied, mut vacant) = (Vec::new(), Vec::new());
        for (target, occupancy) in lanes {
            match occupancy {
                Occupancy::Occupied => occupied.push(target.clone()),
                Occupancy::Vacant => vacant.push(target.clone()),
                Occupancy::Unused => {}
            }
        }
        match (occupied.is_empty(), vacant.is_empty()) {
            (false, _) => occupied,
            (true, false) => vacant,
            (true, true) => vec![TargetName::default()],
        }
    }

    /// Returns the only target that the reference means, as [`targets`](Self::targets) decides. A report changes the
    /// lane there.
    ///
    /// # Errors
    /// The reference means several targets, which the error lists.
    pub fn only_target<'t>(
        &self,
        lanes: impl IntoIterator<Item = (&'t TargetName, Occupancy)>,
    ) -> Result<TargetName, Vec<TargetName>> {
        <[TargetName; 1]>::try_from(self.targets(lanes)).map(|[only]| only)
    }
}

impl From<Lane> for LaneRef {
    fn from(lane: Lane) -> Self {
        Self { environment: lane.environment, service: lane.service, target: Some(lane.target) }
    }
}

impl fmt::Display for LaneRef {
    /// Writes `production/eu-west-1/search-api`; without a target, `production/default/search-api`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = TargetName::default();
        let target = self.target.as_ref().unwrap_or(&default);
        write!(f, "{}/{}/{}", self.environment, target, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::Occupancy::{Occupied, Unused, Vacant};
    use super::*;

    fn target(name: &str) -> TargetName {
        TargetName::parse(name).expect("a target")
    }

    fn web(target: Option<TargetName>) -> LaneRef {
        LaneRef {
            environment: EnvironmentName::parse("production").expect("an environment"),
            service: ServiceName::parse("web").expect("a service"),
            target,
        }
    }

    fn only_target(named: &LaneRef, lanes: &[(&str, Occupancy)]) -> Result<TargetName, Vec<TargetName>> {
        let lanes: Vec<_> = lanes.iter().map(|(name, occupancy)| (target(name), *occupancy)).collect();
        named.only_target(lanes.iter().map(|(target, occupancy)| (target, *occupancy)))
    }

    #[test]
    fn a_named_target_is_meant_in_any_case() {
        let named = web(Some(target("us")));
        assert_eq!(only_target(&named, &[("eu", Occupied)]), Ok(target("us")));
        assert_eq!(only_target(&named, &[]), Ok(target("us")));
    }

    #[test]
    fn without_a_target_the_occupied_lane_is_meant() {
        let named = web(None);
        assert_eq!(only_target(&named, &[("eu", Vacant), ("us", Occupied)]), Ok(target("us")));
        let several = [("ap", Vacant), ("eu", Occupied), ("us", Occupied)];
        assert_eq!(only_target(&named, &several), Err(vec![target("eu"), target("us")]));
    }

    #[test]
    fn without_an_occupied_lane_the_vacant_ones_are_meant_and_else_the_default_target() {
        let named = web(None);
        assert_eq!(only_target(&named, &[("eu", Vacant), ("us", Unused)]), Ok(target("eu")));
        assert_eq!(
            only_target(&named, &[("eu", Vacant), ("us", Vacant)]),
            Err(vec![target("eu"), target("us")])
        );
        assert_eq!(only_target(&named, &[("eu", Unused)]), Ok(TargetName::default()));
        assert_eq!(only_target(&named, &[]), Ok(TargetName::default()));
    }
}
