//! Filtered reading: the entries of one environment or one service.

use futures::{FutureExt, StreamExt};
use ledger_domain::Position;
use ledger_journal::{SharedJournal, SubjectFilter, Until};

use super::fixture::Fixture;
use super::helpers::{append, at, next_positions, positions, read};
use super::submissions::{in_environment, in_service, of_environment, of_service, without_environment};

for_every_journal!(
    a_filter_matches_exactly_its_environment_or_service,
    names_with_dots_are_distinct,
    names_are_case_sensitive,
    a_filtered_reader_respects_its_bounds,
    a_filtered_reader_ends_even_if_its_last_match_is_far_before_its_bound,
    a_filtered_reader_waits_for_matching_entries,
);

/// Appends an entry for each of these environments and services, in this order.
async fn append_of(journal: &SharedJournal, places: &[(&str, &str)]) {
    let new_entries: Vec<_> =
        (1..).zip(places).map(|(n, (environment, service))| of_service(environment, service, n)).collect();
    append(journal, &new_entries).await;
}

async fn read_all(journal: &SharedJournal, filter: SubjectFilter) -> Vec<u64> {
    positions(&read(journal, filter, 0, 1_000).await)
}

async fn a_filter_matches_exactly_its_environment_or_service(fixture: impl Fixture) {
    let journal = fixture.journal();
    let new_entries = [
        of_service("prod", "web", 1),
        of_service("production", "web", 2),
        of_service("prod", "webapp", 3),
        of_environment("prod", 4),
        without_environment(5),
        of_service("web", "prod", 6),
        of_service("prod", "web", 7),
    ];
    append(&journal, &new_entries).await;

    assert_eq!(read_all(&journal, SubjectFilter::All).await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(read_all(&journal, in_environment("prod")).await, [1, 3, 4, 7]);
    assert_eq!(read_all(&journal, in_environment("production")).await, [2]);
    assert_eq!(read_all(&journal, in_environment("pro")).await, [0; 0]);
    assert_eq!(read_all(&journal, in_service("prod", "web")).await, [1, 7]);
    assert_eq!(read_all(&journal, in_service("prod", "webapp")).await, [3]);
    assert_eq!(read_all(&journal, in_service("prod", "we")).await, [0; 0]);
}

async fn names_with_dots_are_distinct(fixture: impl Fixture) {
    let journal = fixture.journal();
    let places = [("a", "b.c"), ("a.b", "c"), ("a.b", "c.d"), ("a", "b"), ("a-b", "c"), ("a.b.c", "d")];
    append_of(&journal, &places).await;

    assert_eq!(read_all(&journal, in_environment("a")).await, [1, 4]);
    assert_eq!(read_all(&journal, in_environment("a.b")).await, [2, 3]);
    assert_eq!(read_all(&journal, in_environment("a.b.c")).await, [6]);
    assert_eq!(read_all(&journal, in_service("a", "b")).await, [4]);
    assert_eq!(read_all(&journal, in_service("a", "b.c")).await, [1]);
    assert_eq!(read_all(&journal, in_service("a.b", "c")).await, [2]);
    assert_eq!(read_all(&journal, in_service("a.b", "c.d")).await, [3]);
}

async fn names_are_case_sensitive(fixture: impl Fixture) {
    let journal = fixture.journal();
    append_of(&journal, &[("prod", "web"), ("Prod", "web"), ("prod", "Web")]).await;

    assert_eq!(read_all(&journal, in_environment("prod")).await, [1, 3]);
    assert_eq!(read_all(&journal, in_service("prod", "web")).await, [1]);
}

async fn a_filtered_reader_respects_its_bounds(fixture: impl Fixture) {
    let journal = fixture.journal();
    let places = [("prod", "web"), ("test", "web")].repeat(10);
    append_of(&journal, &places).await;

    let prod = async |after, until| positions(&read(&journal, in_environment("prod"), after, until).await);

    assert_eq!(prod(0, 4).await, [1, 3]);
    assert_eq!(prod(0, 5).await, [1, 3, 5]);
    assert_eq!(prod(3, 7).await, [5, 7]);
    assert_eq!(prod(4, 7).await, [5, 7]);
    assert_eq!(prod(17, 1_000).await, [19]);
    assert_eq!(prod(5, 6).await, [0; 0]);
    assert_eq!(prod(19, 20).await, [0; 0]);
    assert_eq!(prod(30, 40).await, [0; 0]);
}

async fn a_filtered_reader_ends_even_if_its_last_match_is_far_before_its_bound(fixture: impl Fixture) {
    let journal = fixture.journal();
    let places = [[("prod", "web")].repeat(3), [("test", "web")].repeat(2_000)].concat();
    append_of(&journal, &places).await;

    for until in [3, 4, 1_500, 2_003, 9_000] {
        let found = read(&journal, in_service("prod", "web"), 0, until).await;
        assert_eq!(positions(&found), [1, 2, 3], "until {until}");
        let none = read(&journal, in_service("prod", "other"), 0, until).await;
        assert_eq!(positions(&none), [0; 0], "until {until}");
    }
}

async fn a_filtered_reader_waits_for_matching_entries(fixture: impl Fixture) {
    let journal = fixture.journal();
    append(&journal, &[of_service("prod", "web", 1), of_service("test", "web", 2)]).await;
    let mut prod = journal.read(in_environment("prod"), Position::START, Until::Forever);
    let mut web = journal.read(in_service("test", "web"), at(2), Until::Forever);
    assert_eq!(next_positions(&mut prod, 1).await, [1]);

    append(&journal, &[without_environment(3), of_service("test", "api", 4)]).await;
    assert!(prod.next().now_or_never().is_none(), "no matching entry yet");
    assert!(web.next().now_or_never().is_none(), "no matching entry yet");
    append(
        &journal,
        &[of_environment("prod", 5), of_service("test", "web", 6), of_service("prod", "web", 7)],
    )
    .await;

    assert_eq!(next_positions(&mut prod, 2).await, [5, 7]);
    assert_eq!(next_positions(&mut web, 1).await, [6]);
}
