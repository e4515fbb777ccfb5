//! The demo's own state of the lanes, and the products deployed to them; rollbacks read the previous releases
//! from it.

use ledger_domain::{Artifact, LaneRef, Release, ShortText, SlotName, TargetName};

use super::catalogue::{self, ENVIRONMENTS, Entry, SERVICES, SLOTS};

/// An index into [`ENVIRONMENTS`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Dev,
    Staging,
    Production,
}

impl Stage {
    pub(super) const ALL: [Self; 3] = [Self::Dev, Self::Staging, Self::Production];

    pub(super) const fn name(self) -> &'static str {
        ENVIRONMENTS[self as usize]
    }
}

pub(super) struct Product {
    pub(super) entry: &'static Entry,
    /// Number of versions built.
    pub(super) versions: u32,
    /// Number of configurations, the first included.
    pub(super) configs: u32,
    pub(super) dev: LaneState,
    pub(super) staging: LaneState,
    pub(super) production: Vec<LaneState>,
}

impl Product {
    pub(super) fn all() -> Vec<Self> {
        SERVICES.iter().map(Self::of).collect()
    }

    fn of(entry: &'static Entry) -> Self {
        let lane = |stage: Stage, target, slots| LaneState::new(stage, entry.service, target, slots);
        let production = entry
            .targets
            .iter()
            .map(|target| lane(Stage::Production, Some(catalogue::target_name(target)), entry.slots));
        Self {
            entry,
            versions: 0,
            configs: 1,
            dev: lane(Stage::Dev, None, false),
            staging: lane(Stage::Staging, None, false),
            production: production.collect(),
        }
    }
}

/// A lane and the releases deployed to it.
pub(super) struct LaneState {
    pub(super) lane: LaneRef,
    deployed: Deployed,
}

enum Deployed {
    Plain(Option<Release>),
    Slots { live: Option<usize>, slots: [Option<Release>; 2] },
}

impl LaneState {
    fn new(stage: Stage, service: &str, target: Option<TargetName>, slots: bool) -> Self {
        let lane = LaneRef {
            environment: catalogue::environment_name(stage.name()),
            service: catalogue::service_name(service),
            target,
        };
        let deployed =
            if slots { Deployed::Slots { live: None, slots: [None, None] } } else { Deployed::Plain(None) };
        Self { lane, deployed }
    }

    /// Returns the live release.
    pub(super) const fn live(&self) -> Option<&Release> {
        match &self.deployed {
            Deployed::Plain(release) => release.as_ref(),
            Deployed::Slots { live: Some(index), slots } => slots[*index].as_ref(),
            Deployed::Slots { live: None, .. } => None,
        }
    }

    /// Returns the slot for the next release, if the lane has slots.
    pub(super) fn next_slot(&self) -> Option<SlotName> {
        match &self.deployed {
            Deployed::Plain(_) => None,
            Deployed::Slots { live, .. } => Some(catalogue::slot_name(SLOTS[other_slot(*live)])),
        }
    }

    /// Deploys a release: live at once, or to the idle slot.
    pub(super) fn deploy(&mut self, release: Release) {
        match &mut self.deployed {
            Deployed::Plain(live) => *live = Some(release),
            Deployed::Slots { live, slots } => slots[other_slot(*live)] = Some(release),
        }
    }

    /// Switches traffic to the other slot, if the lane has slots.
    pub(super) const fn switch(&mut self) {
        if let Deployed::Slots { live, .. } = &mut self.deployed {
            *live = Some(other_slot(*live));
        }
    }

    /// Removes the release; has no effect on a lane with slots.
    pub(super) fn clear(&mut self) {
        if let Deployed::Plain(live) = &mut self.deployed {
            *live = None;
        }
    }
}

const fn other_slot(live: Option<usize>) -> usize {
    match live {
        Some(index) => 1 - index,
        None => 0,
    }
}

/// A version on its way from a commit to production.
pub(super) struct Candidate {
    /// The index of its product.
    pub(super) product: usize,
    pub(super) version: ShortText,
    pub(super) artifact: Artifact,
    pub(super) commit: ShortText,
}
