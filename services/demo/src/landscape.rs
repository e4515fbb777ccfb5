//! What stands where, as the demo goes on: its own memory of the lanes, from which rollbacks take
//! what to go back to.

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
    /// How many versions were built.
    pub(super) versions: u32,
    /// How often its configuration changed.
    pub(super) configs: u32,
    pub(super) dev: Site,
    pub(super) staging: Site,
    pub(super) production: Vec<Site>,
}

impl Product {
    pub(super) fn all() -> Vec<Self> {
        SERVICES.iter().map(Self::of).collect()
    }

    fn of(entry: &'static Entry) -> Self {
        let site = |stage: Stage, target, slots| Site::new(stage, entry.service, target, slots);
        let production = entry
            .targets
            .iter()
            .map(|target| site(Stage::Production, Some(catalogue::target_name(target)), entry.slots));
        Self {
            entry,
            versions: 0,
            configs: 1,
            dev: site(Stage::Dev, None, false),
            staging: site(Stage::Staging, None, false),
            production: production.collect(),
        }
    }
}

/// A lane and what stands in it.
pub(super) struct Site {
    pub(super) lane: LaneRef,
    standing: Standing,
}

enum Standing {
    Plain(Option<Release>),
    Slots { live: Option<usize>, held: [Option<Release>; 2] },
}

impl Site {
    fn new(stage: Stage, service: &str, target: Option<TargetName>, slots: bool) -> Self {
        let lane = LaneRef {
            environment: catalogue::environment_name(stage.name()),
            service: catalogue::service_name(service),
            target,
        };
        let standing =
            if slots { Standing::Slots { live: None, held: [None, None] } } else { Standing::Plain(None) };
        Self { lane, standing }
    }

    /// What runs there.
    pub(super) const fn live(&self) -> Option<&Release> {
        match &self.standing {
            Standing::Plain(release) => release.as_ref(),
            Standing::Slots { live: Some(index), held } => held[*index].as_ref(),
            Standing::Slots { live: None, .. } => None,
        }
    }

    /// The slot that the next release goes to, where the lane has slots.
    pub(super) fn next_slot(&self) -> Option<SlotName> {
        match &self.standing {
            Standing::Plain(_) => None,
            Standing::Slots { live, .. } => Some(catalogue::slot_name(SLOTS[other(*live)])),
        }
    }

    /// Puts a release there: live at once, or in the slot that traffic does not reach.
    pub(super) fn put(&mut self, release: Release) {
        match &mut self.standing {
            Standing::Plain(standing) => *standing = Some(release),
            Standing::Slots { live, held } => held[other(*live)] = Some(release),
        }
    }

    /// Switches traffic to the other slot, where the lane has slots.
    pub(super) const fn switch(&mut self) {
        if let Standing::Slots { live, .. } = &mut self.standing {
            *live = Some(other(*live));
        }
    }

    /// Removes what stands there; a lane with slots keeps it.
    pub(super) fn clear(&mut self) {
        if let Standing::Plain(standing) = &mut self.standing {
            *standing = None;
        }
    }
}

const fn other(live: Option<usize>) -> usize {
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
