//! A plan brings an environment to what is wanted, exactly, in the order that its policy asks for.

use chrono::DateTime;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::{Difference, Effect, EventId, Since, Track, TrackEntry};

/// Not in the alphabet's order, since what depends on what must not follow from names.
const SERVICES: [&str; 4] = ["search", "basket", "web", "checkout"];
const TARGETS: [&str; 3] = ["west", "east", "north"];

/// Later than all that a history tells.
const AFTERWARDS: u64 = 10_000;

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

fn since(occurred_at: i64, position: u64) -> Since {
    Since {
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

/// A policy under which each of these depends on those, and targets come in this order.
fn policy(dependencies: &[(&str, &[&str])], targets: &[&str]) -> Policy {
    let needs = |names: &[&str]| names.iter().map(|name| service(name)).collect();
    Policy {
        dependencies: dependencies.iter().map(|(name, on)| (service(name), needs(on))).collect(),
        target_order: targets.iter().map(|name| target(name)).collect(),
        ..Policy::default()
    }
}

/// What an event did to a lane.
#[derive(Debug, Clone)]
struct Told {
    service: ServiceName,
    target: TargetName,
    track: Track,
    effect: Effect,
    /// Seconds after it occurred until it was told, where a second is a position.
    late: i64,
}

fn told(service_name: &str, target_name: &str, track: Track, effect: Effect) -> Told {
    Told { service: service(service_name), target: target(target_name), track, effect, late: 0 }
}

fn deployed(service: &str, target: &str, version: &str) -> Told {
    told(service, target, Track::Traffic, Effect::Deployed(release(version)))
}

fn deployed_to(slot_name: &str, service: &str, version: &str) -> Told {
    told(service, "west", Track::Slot(slot(slot_name)), Effect::Deployed(release(version)))
}

fn switched_to(slot_name: &str, service: &str) -> Told {
    told(service, "west", Track::Traffic, Effect::SwitchedTo(slot(slot_name)))
}

/// The lanes after a history, told at positions 1, 2, 3 …
fn lanes(history: &[Told]) -> Lanes {
    let mut lanes = Lanes::new();
    for (told, position) in history.iter().cloned().zip(1_u64..) {
        let written =
            TrackEntry { effect: told.effect, since: since(position.cast_signed() - told.late, position) };
        lanes.entry((told.service, told.target)).or_default().apply(&told.track, written);
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

/// The lanes after the steps, wave by wave, were carried out and told; the order within a wave is that of
/// these keys.
fn carried_out(mut lanes: Lanes, plan: &Plan, order: &[u32]) -> Lanes {
    let environment = EnvironmentName::parse("production").expect("a name");
    let mut steps: Vec<(&Step, &u32)> = plan.steps.iter().zip(order.iter().cycle()).collect();
    steps.sort_by_key(|(step, key)| (step.wave, **key));
    let facts = steps.into_iter().flat_map(|(step, _)| step.reports(&environment, None, None));
    for (payload, position) in facts.zip(AFTERWARDS..) {
        let (lane, track, effect) = payload.change().expect("a step changes its lane");
        let written = TrackEntry { effect, since: since(position.cast_signed(), position) };
        let key = (lane.service.clone(), lane.target.clone().expect("a step names its target"));
        lanes.entry(key).or_default().apply(&track, written);
    }
    lanes
}

/// Every lane runs what is wanted, or nothing where nothing is.
fn satisfies(runs: &Composition, wanted: &Composition) -> Result<(), TestCaseError> {
    let keys = |of: &Composition| {
        of.lanes().map(|(service, target, _)| (service.clone(), target.clone())).collect::<Vec<_>>()
    };
    prop_assert_eq!(keys(runs), keys(wanted));
    for ((_, _, live), (_, _, wanted)) in runs.lanes().zip(wanted.lanes()) {
        prop_assert!(wanted.release.matches(&live.release), "{:?} {:?}", wanted, live);
    }
    Ok(())
}

/// The steps as `wave service target action slot`.
fn shown(plan: &Plan) -> Vec<String> {
    let shown = plan.steps.iter().map(|step| {
        let slot = step.slot.as_ref().map_or("", SlotName::as_str);
        let Step { wave, service, target, action, .. } = step;
        format!("{wave} {service} {target} {} {slot}", action.name()).trim_end().to_owned()
    });
    shown.collect()
}

fn any_told() -> impl Strategy<Value = Told> {
    let any_slot = || prop::sample::select(vec!["blue", "green", "red"]).prop_map(slot);
    let config = prop::option::of(Just("revision".to_owned()));
    let any_release = ("v[1-3]", config).prop_map(|(version, infrastructure)| Release {
        infrastructure: infrastructure.map(|text| ShortText::parse(&text).expect("a line")),
        ..release(&version)
    });
    let track = prop_oneof![Just(Track::Traffic), any_slot().prop_map(Track::Slot)];
    let written = prop_oneof![
        4 => (track.clone(), any_release.prop_map(Effect::Deployed)),
        1 => (track, Just(Effect::Removed)),
        2 => (Just(Track::Traffic), any_slot().prop_map(Effect::SwitchedTo)),
    ];
    let names = (prop::sample::select(&SERVICES[..]), prop::sample::select(&TARGETS[..]));
    (names, written, prop_oneof![3 => Just(0), 1 => 1_i64..20]).prop_map(
        |((service_name, target_name), (track, effect), late)| Told {
            late,
            ..told(service_name, target_name, track, effect)
        },
    )
}

fn any_history() -> impl Strategy<Value = Vec<Told>> {
    prop::collection::vec(any_told(), 0..60)
}

fn any_order() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), SERVICES.len() * TARGETS.len())
}

/// A policy without circles: of two services only the one that comes first may depend on the other.
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

/// A policy with or without circles.
fn any_dependencies() -> impl Strategy<Value = Policy> {
    let names = || prop::sample::select(&SERVICES[..]).prop_map(service);
    let needs = prop::collection::vec(names(), 0..3);
    prop::collection::btree_map(names(), needs, 0..5)
        .prop_map(|dependencies| Policy { dependencies, ..Policy::default() })
}

/// All that a service needs, and what that needs.
fn needed_by<'p>(policy: &'p Policy, service: &ServiceName) -> BTreeSet<&'p ServiceName> {
    let needs = |name: &ServiceName| policy.dependencies.get(name).into_iter().flatten();
    let mut all: BTreeSet<&ServiceName> = needs(service).collect();
    for _ in SERVICES {
        let more: Vec<_> = all.iter().flat_map(|name| needs(name)).collect();
        all.extend(more);
    }
    all
}

#[test]
fn what_runs_as_wanted_has_no_step() {
    let present = lanes(&[deployed("web", "west", "v1"), deployed("search", "west", "v2")]);
    let wanted = composition(&lanes(&[deployed("web", "west", "v1"), deployed("search", "west", "v1")]));
    let plan = plan(&present, &wanted, &Policy::default());
    assert_eq!(shown(&plan), ["1 search west redeploy"]);
    assert_eq!(plan.steps[0].from, Some(release("v2")));
    assert_eq!(plan.steps[0].to, Some(release("v1")));
    assert_eq!(plan.from, Position::new(7));
}

fn on(infrastructure: &str, version: &str) -> Release {
    Release { infrastructure: Some(ShortText::parse(infrastructure).expect("a line")), ..release(version) }
}

fn running(release: &Release) -> Lanes {
    lanes(&[told("web", "west", Track::Traffic, Effect::Deployed(release.clone()))])
}

#[test]
fn the_same_version_with_another_configuration_is_another_release() {
    let plan = |present: &Release, wanted: &Release| {
        shown(&plan(&running(present), &composition(&running(wanted)), &Policy::default()))
    };
    assert_eq!(plan(&on("git:3f2a", "v1"), &on("git:77aa", "v1")), ["1 web west redeploy"]);
    assert_eq!(plan(&release("v1"), &on("git:77aa", "v1")), ["1 web west redeploy"]);
}

#[test]
fn rule_12_a_lane_that_runs_what_is_wanted_and_of_which_more_is_known_has_no_step() {
    let wanted = composition(&running(&release("v1")));
    assert_eq!(plan(&running(&on("git:3f2a", "v1")), &wanted, &Policy::default()).steps, []);
    let history = [
        told("web", "west", Track::Slot(slot("blue")), Effect::Deployed(on("git:3f2a", "v1"))),
        deployed_to("green", "web", "v2"),
        switched_to("green", "web"),
    ];
    assert_eq!(shown(&plan(&lanes(&history), &wanted, &Policy::default())), ["1 web west switch blue"]);
}

#[test]
fn rule_1_the_controller_removes_only_lanes_that_the_point_shows_removed() {
    let before = [deployed("web", "west", "v1"), told("basket", "west", Track::Traffic, Effect::Removed)];
    let before = [&[deployed("basket", "west", "v1")][..], &before[..]].concat();
    let after =
        [deployed("web", "west", "v2"), deployed("basket", "west", "v2"), deployed("search", "west", "v1")];
    let at_point = lanes(&before);
    let shown_gone = shown_removed(&at_point);
    assert_eq!(shown_gone, BTreeSet::from([(service("basket"), target("west"))]));
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
    assert_eq!(plan(Removals::Shown(&shown_gone)), ["1 web west redeploy", "2 basket west remove"]);
    assert_eq!(plan(Removals::All), ["1 web west redeploy", "2 basket west remove", "2 search west remove"]);
}

#[test]
fn a_plan_that_removes_every_lane_leaves_nothing() {
    let present = lanes(&[deployed("web", "west", "v1"), deployed("search", "west", "v1")]);
    let wanted = |history: &[Told]| plan(&present, &composition(&lanes(history)), &Policy::default());
    assert!(wanted(&[]).leaves_nothing(&present));
    assert!(!wanted(&[deployed("web", "west", "v1")]).leaves_nothing(&present));
    assert!(!wanted(&[deployed("basket", "west", "v1")]).leaves_nothing(&present));
    assert!(Plan { from: Position::START, steps: Vec::new() }.leaves_nothing(&Lanes::new()));
}

#[test]
fn dependencies_and_dependents_are_followed_to_their_end_even_in_a_circle() {
    let policy = policy(&[("web", &["search"]), ("search", &["basket"]), ("checkout", &["checkout"])], &[]);
    let names = |found: BTreeSet<&ServiceName>| found.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(policy.dependencies_of([&service("web")])), [service("basket"), service("search")]);
    assert_eq!(names(policy.dependencies_of([&service("checkout")])), [service("checkout")]);
    let dependents = policy.with_dependents([service("basket"), service("checkout")]);
    assert_eq!(dependents, BTreeSet::from(SERVICES.map(service)));
    assert_eq!(policy.with_dependents([service("web")]), BTreeSet::from([service("web")]));
}

#[test]
fn traffic_is_switched_back_where_the_old_release_stands_in_an_idle_slot() {
    let before = [deployed_to("blue", "web", "v1"), switched_to("blue", "web")];
    let after = [deployed_to("green", "web", "v2"), switched_to("green", "web")];
    let present = lanes(&[before.clone(), after].concat());
    let plan = plan(&present, &composition(&lanes(&before)), &Policy::default());
    assert_eq!(shown(&plan), ["1 web west switch blue"]);
}

#[test]
fn what_stands_in_no_slot_any_more_is_deployed_to_one_that_traffic_does_not_reach() {
    let before = [deployed_to("blue", "web", "v1"), switched_to("blue", "web")];
    let next = [deployed_to("green", "web", "v2"), switched_to("green", "web")];
    let last = [deployed_to("blue", "web", "v3"), switched_to("blue", "web")];
    let present = lanes(&[before.clone(), next, last].concat());
    let plan = plan(&present, &composition(&lanes(&before)), &Policy::default());
    assert_eq!(shown(&plan), ["1 web west redeploy green"]);
}

#[test]
fn a_lane_without_slots_gets_what_stood_in_a_slot_elsewhere_without_a_slot() {
    let present = lanes(&[deployed("web", "west", "v2")]);
    let elsewhere = [deployed_to("blue", "web", "v1"), switched_to("blue", "web")];
    let plan = plan(&present, &composition(&lanes(&elsewhere)), &Policy::default());
    assert_eq!(shown(&plan), ["1 web west redeploy"]);
}

#[test]
fn a_service_comes_after_what_it_depends_on_and_targets_in_the_policys_order() {
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
fn services_that_do_not_depend_on_each_other_share_a_wave() {
    let of = |version| lanes(&["web", "search", "basket"].map(|name| deployed(name, "west", version)));
    let plan = plan(&of("v2"), &composition(&of("v1")), &Policy::default());
    assert_eq!(shown(&plan), ["1 basket west redeploy", "1 search west redeploy", "1 web west redeploy"]);
}

#[test]
fn removals_come_last_and_dependents_are_removed_first() {
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
fn a_recorded_policy_with_a_circle_still_gives_a_plan() {
    let policy = policy(&[("web", &["search"]), ("search", &["web"])], &[]);
    let of = |version| lanes(&["web", "search"].map(|name| deployed(name, "west", version)));
    assert_eq!(plan(&of("v2"), &composition(&of("v1")), &policy).steps.len(), 2);
}

#[test]
fn the_digest_is_of_lines_that_a_shell_can_make() {
    let before = [deployed_to("blue", "api", "v1"), switched_to("blue", "api")];
    let after = [deployed_to("green", "api", "v2"), switched_to("green", "api")];
    let mut history = [before.clone(), after].concat();
    history.push(deployed("web", "default", "v3"));
    history.iter_mut().for_each(|told| told.target = TargetName::default());
    let mut wanted = before.to_vec();
    wanted.iter_mut().for_each(|told| told.target = TargetName::default());
    let plan = plan(&lanes(&history), &composition(&lanes(&wanted)), &Policy::default());
    assert_eq!(shown(&plan), ["1 api default switch blue", "2 web default remove"]);
    // printf '1\tapi\tdefault\tswitch\tblue\tv2\t\t\t\t\tv1\t\t\t\t\n2\tweb\tdefault\tremove\t\tv3\t\t\t\t\t\t\t\t\t\n' | sha256sum
    assert_eq!(plan.digest(), "sha256:ce7d5f885e9b0067ae9aff7bd541f76a0df5e9c50bde9986662003475536a1b8");
}

#[test]
fn a_plan_of_no_steps_has_the_digest_of_nothing() {
    let nothing = plan(&Lanes::new(), &Composition::default(), &Policy::default());
    assert_eq!(nothing.digest(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn a_step_is_reported_with_the_rollback_and_the_deployment_that_it_belongs_to() {
    let before = [deployed_to("blue", "web", "v1"), switched_to("blue", "web")];
    let present = lanes(&before);
    let wanted = composition(&lanes(&[deployed("web", "west", "v2")]));
    let plan = plan(&present, &wanted, &Policy::default());
    let environment = EnvironmentName::parse("production").expect("a name");
    let (run, rollback) =
        (ShortText::parse("run-1").expect("a line"), ShortText::parse("rollback-1").expect("a line"));
    let reports = plan.steps[0].reports(&environment, Some(&run), Some(&rollback));
    let [Payload::DeploySucceeded(deploy), Payload::TrafficSwitched(switch)] = &reports[..] else {
        panic!("a deploy to a slot and the switch to it, not {reports:?}");
    };
    assert_eq!((&deploy.deployment, &deploy.rollback_id), (&Some(run.clone()), &Some(rollback.clone())));
    assert_eq!((&switch.deployment, &switch.rollback_id), (&Some(run), &Some(rollback)));
    assert_eq!(deploy.slot.as_ref(), Some(&switch.slot));
}

#[test]
fn a_circular_dependency_is_named_by_a_service_of_the_circle() {
    let circle = policy(&[("basket", &["search"]), ("search", &["web"]), ("web", &["search"])], &[]);
    assert_eq!(circle.circular_dependency(), Some(&service("search")));
    let itself = policy(&[("web", &["web"])], &[]);
    assert_eq!(itself.circular_dependency(), Some(&service("web")));
    let diamond =
        policy(&[("web", &["search", "basket"]), ("search", &["checkout"]), ("basket", &["checkout"])], &[]);
    assert_eq!(diamond.circular_dependency(), None);
}

proptest! {
    #[test]
    fn the_plan_from_what_runs_to_an_earlier_point_reaches_it(
        history in any_history(), point in any::<Index>(), policy in any_policy(), order in any_order(),
    ) {
        let wanted = composition(&lanes(&history[..point.index(history.len() + 1)]));
        let present = lanes(&history);
        let plan = plan(&present, &wanted, &policy);
        let after = composition(&carried_out(present, &plan, &order));
        satisfies(&after, &wanted)?;
    }

    #[test]
    fn the_plan_to_another_environments_composition_reaches_it(
        here in any_history(), elsewhere in any_history(), policy in any_policy(), order in any_order(),
    ) {
        let (present, wanted) = (lanes(&here), composition(&lanes(&elsewhere)));
        let after = composition(&carried_out(present.clone(), &plan(&present, &wanted, &policy), &order));
        satisfies(&after, &wanted)?;
    }

    #[test]
    fn an_environment_is_emptied_and_built_from_nothing(
        history in any_history(), policy in any_policy(), order in any_order(),
    ) {
        let (present, nothing) = (lanes(&history), Composition::default());
        let wanted = composition(&present);
        let emptied = carried_out(present.clone(), &plan(&present, &nothing, &policy), &order);
        prop_assert_eq!(composition(&emptied).digest(), nothing.digest());
        let built = carried_out(Lanes::new(), &plan(&Lanes::new(), &wanted, &policy), &order);
        satisfies(&composition(&built), &wanted)?;
    }

    #[test]
    fn no_lane_is_removed_that_is_not_shown_removed(
        history in any_history(), point in any::<Index>(), policy in any_policy(), order in any_order(),
    ) {
        let at_point = lanes(&history[..point.index(history.len() + 1)]);
        let (present, wanted, shown_gone) = (lanes(&history), composition(&at_point), shown_removed(&at_point));
        let removals = Removals::Shown(&shown_gone);
        let plan = Plan::make(Position::START, &present, &wanted, &LaneFilter::default(), &policy, removals);
        let removed = plan.steps.iter().filter(|step| step.to.is_none());
        for step in removed {
            prop_assert!(shown_gone.contains(&(step.service.clone(), step.target.clone())));
        }
        let leaves_nothing = plan.leaves_nothing(&present);
        let after = composition(&carried_out(present, &plan, &order));
        prop_assert_eq!(after.lanes().next().is_none(), leaves_nothing);
        for (service, target, live) in wanted.lanes() {
            let runs = after.lane(service, target).expect("what is wanted runs");
            prop_assert!(live.release.matches(&runs.release));
        }
    }

    #[test]
    fn the_plan_from_what_runs_to_what_runs_is_empty(history in any_history(), policy in any_policy()) {
        let present = lanes(&history);
        prop_assert_eq!(plan(&present, &composition(&present), &policy).steps, []);
    }

    #[test]
    fn no_lane_that_runs_what_is_wanted_has_a_step_and_every_other_has_one(
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
    fn only_lanes_of_the_scope_change(
        here in any_history(), elsewhere in any_history(), policy in any_policy(), order in any_order(),
        services in prop::sample::subsequence(SERVICES.to_vec(), 0..3),
        targets in prop::sample::subsequence(TARGETS.to_vec(), 0..3),
    ) {
        let (present, wanted) = (lanes(&here), composition(&lanes(&elsewhere)));
        let scope = scope(&services, &targets);
        let plan = Plan::make(Position::START, &present, &wanted, &scope, &policy, Removals::All);
        let before = composition(&present);
        let after = composition(&carried_out(present, &plan, &order));
        for name in SERVICES.map(service) {
            for place in TARGETS.map(target) {
                let expected = if scope.has(&name, &place) { &wanted } else { &before };
                match (expected.lane(&name, &place), after.lane(&name, &place)) {
                    (None, None) => {}
                    (Some(expected), Some(after)) => prop_assert!(expected.release.matches(&after.release)),
                    (expected, after) => prop_assert!(false, "{:?} {:?}", expected, after),
                }
            }
        }
    }

    #[test]
    fn no_service_comes_before_what_it_depends_on_and_none_is_removed_before_its_dependents(
        here in any_history(), elsewhere in any_history(), policy in any_policy(),
    ) {
        let plan = plan(&lanes(&here), &composition(&lanes(&elsewhere)), &policy);
        for step in &plan.steps {
            let needed = needed_by(&policy, &step.service);
            for need in plan.steps.iter().filter(|other| needed.contains(&other.service)) {
                let in_order = match (step.action, need.action) {
                    (Action::Remove, Action::Remove) => step.wave < need.wave,
                    (Action::Remove, _) => step.wave > need.wave,
                    (_, Action::Remove) => step.wave < need.wave,
                    (_, _) => step.wave > need.wave,
                };
                prop_assert!(in_order, "{} of {} and {}", step.service, step.wave, need.wave);
            }
        }
    }

    #[test]
    fn waves_are_counted_from_one_without_a_gap_and_removals_are_the_last(
        here in any_history(), elsewhere in any_history(), policy in any_policy(),
    ) {
        let plan = plan(&lanes(&here), &composition(&lanes(&elsewhere)), &policy);
        let waves: BTreeSet<u32> = plan.steps.iter().map(|step| step.wave).collect();
        prop_assert!(waves.iter().copied().eq((1..).take(waves.len())));
        prop_assert!(plan.steps.is_sorted_by_key(|step| step.wave));
        prop_assert!(plan.steps.is_sorted_by_key(|step| step.action == Action::Remove));
    }

    #[test]
    fn the_targets_of_a_service_come_in_the_policys_order(
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
    fn the_same_steps_have_the_same_digest_wherever_they_were_made_and_other_steps_another(
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
    fn a_circular_dependency_is_found_where_there_is_one_and_nowhere_else(policy in any_dependencies()) {
        let circular: BTreeSet<_> = SERVICES
            .map(service)
            .into_iter()
            .filter(|name| needed_by(&policy, name).contains(name))
            .collect();
        match policy.circular_dependency() {
            Some(found) => prop_assert!(circular.contains(found), "{} is not in a circle", found),
            None => prop_assert!(circular.is_empty(), "{:?} are in a circle", circular),
        }
    }
}
