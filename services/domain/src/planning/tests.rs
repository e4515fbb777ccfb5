//! Tests that a plan brings an environment to exactly the wanted composition, in the order of its policy.

use chrono::DateTime;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::{Difference, Effect, EventId, EventRef, Track, TrackEntry};

/// Not in alphabetical order, so that dependencies do not follow from names.
const SERVICES: [&str; 4] = ["search", "basket", "web", "checkout"];
const TARGETS: [&str; 3] = ["west", "east", "north"];

/// A position, and a second, later than every event of a generated history.
const AFTER_HISTORY: u64 = 10_000;

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).expect("a service")
}

fn target(name: &str) -> TargetName {
    TargetName::parse(name).expect("a target")
}

fn slot(name: &str) -> SlotName {
    SlotName::parse(name).expect("a slot")
}

fn release(version: &str) -> Release {
    Release::of_version(ShortText::parse(version).expect("a version"))
}

fn since(occurred_at: i64, position: u64) -> EventRef {
    EventRef {
        occurred_at: DateTime::from_timestamp(occurred_at, 0).expect("a time"),
        position: Position::new(position),
        event_id: EventId::parse(&format!("event-{position}")).expect("an id"),
    }
}

fn scope(services: &[&str], targets: &[&str]) -> LaneFilter {
    LaneFilter {
        services: services.iter().map(|name| service(name)).collect(),
        targets: targets.iter().map(|name| target(name)).collect(),
    }
}

/// Creates a policy with these dependencies and this order of targets.
fn policy(dependencies: &[(&str, &[&str])], targets: &[&str]) -> Policy {
    let needs = |names: &[&str]| names.iter().map(|name| service(name)).collect();
    Policy {
        dependencies: dependencies.iter().map(|(name, on)| (service(name), needs(on))).collect(),
        target_order: targets.iter().map(|name| target(name)).collect(),
        ..Policy::default()
    }
}

/// A change of a lane, as an event reports it.
#[derive(Debug, Clone)]
struct ReportedChange {
    service: ServiceName,
    target: TargetName,
    track: Track,
    effect: Effect,
    /// Seconds from the change to its report. Each position is one second.
    delay: i64,
}

fn change(service_name: &str, target_name: &str, track: Track, effect: Effect) -> ReportedChange {
    ReportedChange { service: service(service_name), target: target(target_name), track, effect, delay: 0 }
}

fn deployed(service: &str, target: &str, version: &str) -> ReportedChange {
    change(service, target, Track::Traffic, Effect::Deployed(release(version)))
}

fn deployed_to(slot_name: &str, service: &str, version: &str) -> ReportedChange {
    change(service, "west", Track::Slot(slot(slot_name)), Effect::Deployed(release(version)))
}

fn switched_to(slot_name: &str, service: &str) -> ReportedChange {
    change(service, "west", Track::Traffic, Effect::SwitchedTo(slot(slot_name)))
}

/// Returns the lanes after a history, reported at positions 1, 2, 3 …
fn lanes(history: &[ReportedChange]) -> Lanes {
    let mut lanes = Lanes::new();
    for (change, position) in history.iter().cloned().zip(1_u64..) {
        let since = since(position.cast_signed() - change.delay, position);
        let entry = TrackEntry { effect: change.effect, since };
        lanes.entry((change.service, change.target)).or_default().apply(&change.track, entry);
    }
    lanes
}

fn composition(lanes: &Lanes) -> Composition {
    let live =
        |(key, fold): (&(ServiceName, TargetName), &LaneFold)| Some((key.clone(), fold.live()?.to_owned()));
    lanes.iter().filter_map(live).collect()
}

fn plan(present: &Lanes, wanted: &Composition, policy: &Policy) -> Plan {
    Plan::make(Position::new(7), present, wanted, &LaneFilter::default(), policy, Removals::All)
}

/// Returns the lanes after a plan was carried out and reported, wave by wave; `order` gives the order within a wave.
fn execute(mut lanes: Lanes, plan: &Plan, order: &[u32]) -> Lanes {
    let environment = EnvironmentName::parse("production").expect("a name");
    let mut steps: Vec<(&Step, &u32)> = plan.steps.iter().zip(order.iter().cycle()).collect();
    steps.sort_by_key(|(step, key)| (step.wave, **key));
    let payloads = steps.into_iter().flat_map(|(step, _)| step.reports(&environment, None, None));
    for (payload, position) in payloads.zip(AFTER_HISTORY..) {
        let (lane, track, effect) = payload.change().expect("a step changes its lane");
        let entry = TrackEntry { effect, since: since(position.cast_signed(), position) };
        let key = (lane.service.clone(), lane.target.clone().expect("a step names its target"));
        lanes.entry(key).or_default().apply(&track, entry);
    }
    lanes
}

/// Checks that every lane runs the wanted release, or nothing if none is wanted.
fn assert_satisfies(runs: &Composition, wanted: &Composition) -> Result<(), TestCaseError> {
    let keys = |of: &Composition| {
        of.lanes().map(|(service, target, _)| (service.clone(), target.clone())).collect::<Vec<_>>()
    };
    prop_assert_eq!(keys(runs), keys(wanted));
    for ((_, _, live), (_, _, wanted)) in runs.lanes().zip(wanted.lanes()) {
        prop_assert!(wanted.release.matches(&live.release), "{:?} {:?}", wanted, live);
    }
    Ok(())
}

/// Formats the steps as `wave service target action slot`.
fn shown(plan: &Plan) -> Vec<String> {
    let shown = plan.steps.iter().map(|step| {
        let slot = step.slot.as_ref().map_or("", SlotName::as_str);
        let Step { wave, service, target, action, .. } = step;
        format!("{wave} {service} {target} {} {slot}", action.name()).trim_end().to_owned()
    });
    shown.collect()
}

fn any_change() -> impl Strategy<Value = ReportedChange> {
    let any_slot = || prop::sample::select(vec!["blue", "green", "red"]).prop_map(slot);
    let config = prop::option::of(Just("revision".to_owned()));
    let any_release = ("v[1-3]", config).prop_map(|(version, infrastructure)| Release {
        infrastructure: infrastructure.map(|text| ShortText::parse(&text).expect("a valid text")),
        ..release(&version)
    });
    let track = prop_oneof![Just(Track::Traffic), any_slot().prop_map(Track::Slot)];
    let track_and_effect = prop_oneof![
        4 => (track.clone(), any_release.prop_map(Effect::Deployed)),
        1 => (track, Just(Effect::Removed)),
        2 => (Just(Track::Traffic), any_slot().prop_map(Effect::SwitchedTo)),
    ];
    let names = (prop::sample::select(&SERVICES[..]), prop::sample::select(&TARGETS[..]));
    (names, track_and_effect, prop_oneof![3 => Just(0), 1 => 1_i64..20]).prop_map(
        |((service_name, target_name), (track, effect), delay)| ReportedChange {
            delay,
            ..change(service_name, target_name, track, effect)
        },
    )
}

fn any_history() -> impl Strategy<Value = Vec<ReportedChange>> {
    prop::collection::vec(any_change(), 0..60)
}

fn any_order() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), SERVICES.len() * TARGETS.len())
}

/// Generates a policy without circular dependencies: services are shuffled, and each may depend on later ones only.
fn any_policy() -> impl Strategy<Value = Policy> {
    let pairs = SERVICES.len() * SERVICES.len();
    let services = Just(SERVICES.to_vec()).prop_shuffle();
    let targets = prop::sample::subsequence(TARGETS.to_vec(), 0..=TARGETS.len()).prop_shuffle();
    (services, prop::collection::vec(any::<bool>(), pairs), targets).prop_map(
        |(services, depends, targets)| {
            let below = |above: usize| {
                let on = (above + 1..services.len()).filter(|on| depends[above * SERVICES.len() + on]);
                on.map(|on| services[on]).collect::<Vec<_>>()
            };
            let dependencies: Vec<_> = (0..services.len()).map(|n| (services[n], below(n))).collect();
            let dependencies: Vec<_> = dependencies.iter().map(|(name, on)| (*name, &on[..])).collect();
            policy(&dependencies, &targets)
        },
    )
}

/// Generates a policy with or without circular dependencies.
fn any_dependencies() -> impl Strategy<Value = Policy> {
    let names = || prop::sample::select(&SERVICES[..]).prop_map(service);
    let needs = prop::collection::vec(names(), 0..3);
    prop::collection::btree_map(names(), needs, 0..5)
        .prop_map(|dependencies| Policy { dependencies, ..Policy::default() })
}

/// Returns the direct and indirect dependencies of a service.
fn all_dependencies<'p>(policy: &'p Policy, service: &ServiceName) -> BTreeSet<&'p ServiceName> {
    let needs = |name: &ServiceName| policy.dependencies.get(name).into_iter().flatten();
    let mut all: BTreeSet<&ServiceName> = needs(service).collect();
    for _ in SERVICES {
        let more: Vec<_> = all.iter().flat_map(|name| needs(name)).collect();
        all.extend(more);
    }
    all
}

#[test]
fn a_lane_that_runs_the_wanted_release_has_no_step() {
    let present = lanes(&[deployed("web", "west", "v1"), deployed("search", "west", "v2")]);
    let wanted = composition(&lanes(&[deployed("web", "west", "v1"), deployed("search", "west", "v1")]));
    let plan = plan(&present, &wanted, &Policy::default());
    assert_eq!(shown(&plan), ["1 search west redeploy"]);
    assert_eq!(plan.steps[0].from, Some(release("v2")));
    assert_eq!(plan.steps[0].to, Some(release("v1")));
    assert_eq!(plan.from, Position::new(7));
}

fn release_on(infrastructure: &str, version: &str) -> Release {
    Release {
        infrastructure: Some(ShortText::parse(infrastructure).expect("a valid text")),
        ..release(version)
    }
}

fn running(release: &Release) -> Lanes {
    lanes(&[change("web", "west", Track::Traffic, Effect::Deployed(release.clone()))])
}

#[test]
fn the_same_version_on_another_infrastructure_revision_is_another_release() {
    let plan = |present: &Release, wanted: &Release| {
        shown(&plan(&running(present), &composition(&running(wanted)), &Policy::default()))
    };
    assert_eq!(plan(&release_on("git:3f2a", "v1"), &release_on("git:77aa", "v1")), ["1 web west redeploy"]);
    assert_eq!(plan(&release("v1"), &release_on("git:77aa", "v1")), ["1 web west redeploy"]);
}

#[test]
fn rule_12_a_lane_has_no_step_if_its_release_states_more_than_the_wanted_one() {
    let wanted = composition(&running(&release("v1")));
    assert_eq!(plan(&running(&release_on("git:3f2a", "v1")), &wanted, &Policy::default()).steps, []);
    let history = [
        change("web", "west", Track::Slot(slot("blue")), Effect::Deployed(release_on("git:3f2a", "v1"))),
        deployed_to("green", "web", "v2"),
        switched_to("green", "web"),
    ];
    assert_eq!(shown(&plan(&lanes(&history), &wanted, &Policy::default())), ["1 web west switch blue"]);
}

#[test]
fn rule_1_the_controller_removes_only_lanes_that_the_point_shows_as_removed() {
    let before = [deployed("web", "west", "v1"), change("basket", "west", Track::Traffic, Effect::Removed)];
    let before = [&[deployed("basket", "west", "v1")][..], &before[..]].concat();
    let after =
        [deployed("web", "west", "v2"), deployed("basket", "west", "v2"), deployed("search", "west", "v1")];
    let at_point = lanes(&before);
    let removed_at_point = shown_removed(&at_point);
    assert_eq!(removed_at_point, BTreeSet::from([(service("basket"), target("west"))]));
    let present = lanes(&[before, after.to_vec()].concat());
    let plan = |removals| {
        let wanted = composition(&at_point);
        shown(&Plan::make(
            Position::START,
            &present,
            &wanted,
            &LaneFilter::default(),
            &Policy::default(),
            removals,
        ))
    };
    assert_eq!(plan(Removals::Shown(&removed_at_point)), ["1 web west redeploy", "2 basket west remove"]);
    assert_eq!(plan(Removals::All), ["1 web west redeploy", "2 basket west remove", "2 search west remove"]);
}

#[test]
fn a_plan_that_removes_every_lane_leaves_nothing_running() {
    let present = lanes(&[deployed("web", "west", "v1"), deployed("search", "west", "v1")]);
    let wanted =
        |history: &[ReportedChange]| plan(&present, &composition(&lanes(history)), &Policy::default());
    assert!(wanted(&[]).leaves_nothing(&present));
    assert!(!wanted(&[deployed("web", "west", "v1")]).leaves_nothing(&present));
    assert!(!wanted(&[deployed("basket", "west", "v1")]).leaves_nothing(&present));
    assert!(Plan { from: Position::START, steps: Vec::new() }.leaves_nothing(&Lanes::new()));
}

#[test]
fn indirect_dependencies_and_dependents_are_found_even_in_a_cycle() {
    let policy = policy(&[("web", &["search"]), ("search", &["basket"]), ("checkout", &["checkout"])], &[]);
    let names = |found: BTreeSet<&ServiceName>| found.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(policy.dependencies_of([&service("web")])), [service("basket"), service("search")]);
    assert_eq!(names(policy.dependencies_of([&service("checkout")])), [service("checkout")]);
    let dependents = policy.with_dependents([service("basket"), service("checkout")]);
    assert_eq!(dependents, BTreeSet::from(SERVICES.map(service)));
    assert_eq!(policy.with_dependents([service("web")]), BTreeSet::from([service("web")]));
}

#[test]
fn traffic_is_switched_back_if_an_idle_slot_holds_the_old_release() {
    let before = [deployed_to("blue", "web", "v1"), switched_to("blue", "web")];
    let after = [deployed_to("green", "web", "v2"), switched_to("green", "web")];
    let present = lanes(&[before.clone(), after].concat());
    let plan = plan(&present, &composition(&lanes(&before)), &Policy::default());
    assert_eq!(shown(&plan), ["1 web west switch blue"]);
}

#[test]
fn a_release_that_no_slot_holds_is_deployed_to_an_idle_slot() {
    let before = [deployed_to("blue", "web", "v1"), switched_to("blue", "web")];
    let next = [deployed_to("green", "web", "v2"), switched_to("green", "web")];
    let last = [deployed_to("blue", "web", "v3"), switched_to("blue", "web")];
    let present = lanes(&[before.clone(), next, last].concat());
    let plan = plan(&present, &composition(&lanes(&before)), &Policy::default());
    assert_eq!(shown(&plan), ["1 web west redeploy green"]);
}

#[test]
fn in_a_lane_without_slots_the_release_is_deployed_without_a_slot() {
    let present = lanes(&[deployed("web", "west", "v2")]);
    let elsewhere = [deployed_to("blue", "web", "v1"), switched_to("blue", "web")];
    let plan = plan(&present, &composition(&lanes(&elsewhere)), &Policy::default());
    assert_eq!(shown(&plan), ["1 web west redeploy"]);
}

#[test]
fn services_follow_their_dependencies_and_targets_the_order_of_the_policy() {
    let policy = policy(&[("web", &["search"])], &["west", "east"]);
    let of = |version| {
        let lanes = ["web", "search"]
            .iter()
            .flat_map(|name| ["east", "north", "west"].map(move |target| deployed(name, target, version)));
        lanes.collect::<Vec<_>>()
    };
    let plan = plan(&lanes(&of("v2")), &composition(&lanes(&of("v1"))), &policy);
    assert_eq!(
        shown(&plan),
        [
            "1 search west redeploy",
            "2 search east redeploy",
            "3 search north redeploy",
            "4 web west redeploy",
            "5 web east redeploy",
            "6 web north redeploy",
        ]
    );
}

#[test]
fn independent_services_share_a_wave() {
    let of = |version| lanes(&["web", "search", "basket"].map(|name| deployed(name, "west", version)));
    let plan = plan(&of("v2"), &composition(&of("v1")), &Policy::default());
    assert_eq!(shown(&plan), ["1 basket west redeploy", "1 search west redeploy", "1 web west redeploy"]);
}

#[test]
fn removals_come_last_with_dependents_first() {
    let policy = policy(&[("web", &["search"]), ("search", &["basket"])], &[]);
    let present = lanes(&[
        deployed("basket", "west", "v1"),
        deployed("search", "west", "v1"),
        deployed("web", "west", "v1"),
        deployed("checkout", "west", "v2"),
    ]);
    let wanted = composition(&lanes(&[deployed("checkout", "west", "v1")]));
    assert_eq!(
        shown(&plan(&present, &wanted, &policy)),
        ["1 checkout west redeploy", "2 web west remove", "3 search west remove", "4 basket west remove"]
    );
}

#[test]
fn a_policy_with_a_circular_dependency_gives_a_plan() {
    let policy = policy(&[("web", &["search"]), ("search", &["web"])], &[]);
    let of = |version| lanes(&["web", "search"].map(|name| deployed(name, "west", version)));
    assert_eq!(plan(&of("v2"), &composition(&of("v1")), &policy).steps.len(), 2);
}

#[test]
fn the_digest_can_be_computed_in_a_shell() {
    let before = [deployed_to("blue", "api", "v1"), switched_to("blue", "api")];
    let after = [deployed_to("green", "api", "v2"), switched_to("green", "api")];
    let mut history = [before.clone(), after].concat();
    history.push(deployed("web", "default", "v3"));
    history.iter_mut().for_each(|change| change.target = TargetName::default());
    let mut wanted = before.to_vec();
    wanted.iter_mut().for_each(|change| change.target = TargetName::default());
    let plan = plan(&lanes(&history), &composition(&lanes(&wanted)), &Policy::default());
    assert_eq!(shown(&plan), ["1 api default switch blue", "2 web default remove"]);
    // printf '1\tapi\tdefault\tswitch\tblue\tv2\t\t\t\t\tv1\t\t\t\t\n2\tweb\tdefault\tremove\t\tv3\t\t\t\t\t\t\t\t\t\n' | sha256sum
    assert_eq!(plan.digest(), "sha256:ce7d5f885e9b0067ae9aff7bd541f76a0df5e9c50bde9986662003475536a1b8");
}

#[test]
fn a_plan_without_steps_has_the_digest_of_the_empty_text() {
    let empty = plan(&Lanes::new(), &Composition::default(), &Policy::default());
    assert_eq!(empty.digest(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn the_reports_of_a_step_name_its_rollback_and_its_deployment() {
    let before = [deployed_to("blue", "web", "v1"), switched_to("blue", "web")];
    let present = lanes(&before);
    let wanted = composition(&lanes(&[deployed("web", "west", "v2")]));
    let plan = plan(&present, &wanted, &Policy::default());
    let environment = EnvironmentName::parse("production").expect("a name");
    let (run, rollback) = (
        ShortText::parse("run-1").expect("a valid text"),
        ShortText::parse("rollback-1").expect("a valid text"),
    );
    let reports = plan.steps[0].reports(&environment, Some(&run), Some(&rollback));
    let [Payload::DeploySucceeded(deploy), Payload::TrafficSwitched(switch)] = &reports[..] else {
        panic!("a deploy to a slot and the switch to it, not {reports:?}");
    };
    assert_eq!((&deploy.deployment, &deploy.rollback_id), (&Some(run.clone()), &Some(rollback.clone())));
    assert_eq!((&switch.deployment, &switch.rollback_id), (&Some(run), &Some(rollback)));
    assert_eq!(deploy.slot.as_ref(), Some(&switch.slot));
}

#[test]
fn a_circular_dependency_is_reported_as_a_service_of_the_cycle() {
    let cycle = policy(&[("basket", &["search"]), ("search", &["web"]), ("web", &["search"])], &[]);
    assert_eq!(cycle.circular_dependency(), Some(&service("search")));
    let self_dependency = policy(&[("web", &["web"])], &[]);
    assert_eq!(self_dependency.circular_dependency(), Some(&service("web")));
    let diamond =
        policy(&[("web", &["search", "basket"]), ("search", &["checkout"]), ("basket", &["checkout"])], &[]);
    assert_eq!(diamond.circular_dependency(), None);
}

proptest! {
    #[test]
    fn a_plan_to_an_earlier_point_reaches_it(
        history in any_history(), point in any::<Index>(), policy in any_policy(), order in any_order(),
    ) {
        let wanted = composition(&lanes(&history[..point.index(history.len() + 1)]));
        let present = lanes(&history);
        let plan = plan(&present, &wanted, &policy);
        let after = composition(&execute(present, &plan, &order));
        assert_satisfies(&after, &wanted)?;
    }

    #[test]
    fn a_plan_to_the_composition_of_another_environment_reaches_it(
        here in any_history(), elsewhere in any_history(), policy in any_policy(), order in any_order(),
    ) {
        let (present, wanted) = (lanes(&here), composition(&lanes(&elsewhere)));
        let after = composition(&execute(present.clone(), &plan(&present, &wanted, &policy), &order));
        assert_satisfies(&after, &wanted)?;
    }

    #[test]
    fn plans_can_empty_an_environment_and_rebuild_it(
        history in any_history(), policy in any_policy(), order in any_order(),
    ) {
        let (present, nothing) = (lanes(&history), Composition::default());
        let wanted = composition(&present);
        let emptied = execute(present.clone(), &plan(&present, &nothing, &policy), &order);
        prop_assert_eq!(composition(&emptied).digest(), nothing.digest());
        let built = execute(Lanes::new(), &plan(&Lanes::new(), &wanted, &policy), &order);
        assert_satisfies(&composition(&built), &wanted)?;
    }

    #[test]
    fn no_lane_is_removed_that_the_point_does_not_show_as_removed(
        history in any_history(), point in any::<Index>(), policy in any_policy(), order in any_order(),
    ) {
        let at_point = lanes(&history[..point.index(history.len() + 1)]);
        let (present, wanted) = (lanes(&history), composition(&at_point));
        let removed_at_point = shown_removed(&at_point);
        let removals = Removals::Shown(&removed_at_point);
        let plan = Plan::make(Position::START, &present, &wanted, &LaneFilter::default(), &policy, removals);
        let removed = plan.steps.iter().filter(|step| step.to.is_none());
        for step in removed {
            prop_assert!(removed_at_point.contains(&(step.service.clone(), step.target.clone())));
        }
        let leaves_nothing = plan.leaves_nothing(&present);
        let after = composition(&execute(present, &plan, &order));
        prop_assert_eq!(after.lanes().next().is_none(), leaves_nothing);
        for (service, target, live) in wanted.lanes() {
            let runs = after.lane(service, target).expect("what is wanted runs");
            prop_assert!(live.release.matches(&runs.release));
        }
    }

    #[test]
    fn a_plan_to_the_present_composition_is_empty(history in any_history(), policy in any_policy()) {
        let present = lanes(&history);
        prop_assert_eq!(plan(&present, &composition(&present), &policy).steps, []);
    }

    #[test]
    fn exactly_the_lanes_that_differ_have_one_step(
        here in any_history(), elsewhere in any_history(), policy in any_policy(),
    ) {
        let (present, wanted) = (lanes(&here), composition(&lanes(&elsewhere)));
        let plan = plan(&present, &wanted, &policy);
        let stepped: BTreeSet<_> = plan.steps.iter().map(|step| (&step.service, &step.target)).collect();
        prop_assert_eq!(stepped.len(), plan.steps.len());
        let runs = composition(&present);
        let differs = |difference: &Difference<'_>| match difference {
            Difference::Changed { from, to } => !to.release.matches(&from.release),
            Difference::Added(_) | Difference::Removed(_) => true,
        };
        let differing = runs.diff(&wanted);
        let differing = differing.iter().filter(|lane| differs(&lane.difference));
        let differing: BTreeSet<_> = differing.map(|lane| (lane.service, lane.target)).collect();
        prop_assert_eq!(stepped, differing);
    }

    #[test]
    fn only_lanes_in_the_scope_change(
        here in any_history(), elsewhere in any_history(), policy in any_policy(), order in any_order(),
        services in prop::sample::subsequence(SERVICES.to_vec(), 0..3),
        targets in prop::sample::subsequence(TARGETS.to_vec(), 0..3),
    ) {
        let (present, wanted) = (lanes(&here), composition(&lanes(&elsewhere)));
        let scope = scope(&services, &targets);
        let plan = Plan::make(Position::START, &present, &wanted, &scope, &policy, Removals::All);
        let before = composition(&present);
        let after = composition(&execute(present, &plan, &order));
        for name in SERVICES.map(service) {
            for place in TARGETS.map(target) {
                let expected = if scope.includes(&name, &place) { &wanted } else { &before };
                match (expected.lane(&name, &place), after.lane(&name, &place)) {
                    (None, None) => {}
                    (Some(expected), Some(after)) => prop_assert!(expected.release.matches(&after.release)),
                    (expected, after) => prop_assert!(false, "{:?} {:?}", expected, after),
                }
            }
        }
    }

    #[test]
    fn services_change_after_their_dependencies_and_are_removed_after_their_dependents(
        here in any_history(), elsewhere in any_history(), policy in any_policy(),
    ) {
        let plan = plan(&lanes(&here), &composition(&lanes(&elsewhere)), &policy);
        for step in &plan.steps {
            let dependencies = all_dependencies(&policy, &step.service);
            for dependency in plan.steps.iter().filter(|other| dependencies.contains(&other.service)) {
                let in_order = match (step.action, dependency.action) {
                    (Action::Remove, Action::Remove) => step.wave < dependency.wave,
                    (Action::Remove, _) => step.wave > dependency.wave,
                    (_, Action::Remove) => step.wave < dependency.wave,
                    (_, _) => step.wave > dependency.wave,
                };
                prop_assert!(in_order, "{} of {} and {}", step.service, step.wave, dependency.wave);
            }
        }
    }

    #[test]
    fn waves_are_numbered_from_one_without_gaps_and_removals_come_last(
        here in any_history(), elsewhere in any_history(), policy in any_policy(),
    ) {
        let plan = plan(&lanes(&here), &composition(&lanes(&elsewhere)), &policy);
        let waves: BTreeSet<u32> = plan.steps.iter().map(|step| step.wave).collect();
        prop_assert!(waves.iter().copied().eq((1..).take(waves.len())));
        prop_assert!(plan.steps.is_sorted_by_key(|step| step.wave));
        prop_assert!(plan.steps.is_sorted_by_key(|step| step.action == Action::Remove));
    }

    #[test]
    fn the_targets_of_a_service_come_in_the_order_of_the_policy(
        here in any_history(), elsewhere in any_history(), policy in any_policy(),
    ) {
        let plan = plan(&lanes(&here), &composition(&lanes(&elsewhere)), &policy);
        let place = |step: &Step| policy.target_order.iter().position(|name| *name == step.target);
        for name in SERVICES.map(service) {
            for removes in [false, true] {
                let steps = plan.steps.iter().filter(|step| step.service == name);
                let steps = steps.filter(|step| (step.action == Action::Remove) == removes);
                prop_assert!(steps.is_sorted_by_key(|step| place(step).unwrap_or(usize::MAX)));
            }
        }
    }

    #[test]
    fn plans_have_equal_digests_exactly_if_their_steps_are_equal(
        here in any_history(), elsewhere in any_history(), more in any_history(), policy in any_policy(),
    ) {
        let (present, wanted) = (lanes(&here), composition(&lanes(&elsewhere)));
        let one = plan(&present, &wanted, &policy);
        let later = Plan { from: Position::new(99), ..one.clone() };
        prop_assert_eq!(one.digest(), later.digest());
        let other = plan(&present, &composition(&lanes(&more)), &policy);
        prop_assert_eq!(one.steps == other.steps, one.digest() == other.digest());
    }

    #[test]
    fn a_circular_dependency_is_found_exactly_if_there_is_one(policy in any_dependencies()) {
        let circular: BTreeSet<_> = SERVICES
            .map(service)
            .into_iter()
            .filter(|name| all_dependencies(&policy, name).contains(name))
            .collect();
        match policy.circular_dependency() {
            Some(found) => prop_assert!(circular.contains(found), "{} is not in a cycle", found),
            None => prop_assert!(circular.is_empty(), "{:?} are in a cycle", circular),
        }
    }
}
