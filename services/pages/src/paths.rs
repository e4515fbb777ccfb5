//! Paths of the pages.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that are escaped in a segment of a path and in a value of a query: all but the unreserved ones.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Characters that are escaped in a query that is encoded already: those that no URL has.
const NOT_OF_URLS: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'\'');

/// Parameters that are no part of the next page of a list: its place, and what it waits for.
const PLACES: [&str; 4] = ["after", "before", "wait_for", "wait_ms"];

/// Path of the form that ends a session.
pub(crate) const SIGN_OUT: &str = "/signout";

/// Path of the sign-in page.
pub(crate) const SIGN_IN: &str = "/signin";

/// Tenant of the paths if a page has none.
pub(crate) const DEFAULT_TENANT: &str = "default";

/// Paths of a tenant's pages.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    tenant: String,
}

impl Paths {
    /// Returns the paths of a tenant's pages.
    pub(crate) fn new(tenant: Option<&str>) -> Self {
        Self { tenant: format!("/t/{}", escaped(tenant.unwrap_or(DEFAULT_TENANT))) }
    }

    pub(crate) fn overview(&self) -> String {
        self.tenant.clone()
    }

    /// Returns the path of the next page of an overview with this query.
    pub(crate) fn overview_after(&self, query: &str, cursor: &str) -> String {
        next_page(&self.tenant, query, &format!("after={}", escaped(cursor)))
    }

    pub(crate) fn environment(&self, name: &str) -> String {
        format!("{}/environments/{}", self.tenant, escaped(name))
    }

    pub(crate) fn environment_at(&self, name: &str, position: u64) -> String {
        format!("{}?at={position}", self.environment(name))
    }

    pub(crate) fn rollbacks(&self) -> String {
        format!("{}/rollbacks", self.tenant)
    }

    /// Returns the path of the next page of a list of rollbacks with this query.
    pub(crate) fn rollbacks_before(&self, query: &str, position: u64) -> String {
        next_page(&self.rollbacks(), query, &format!("before={position}"))
    }

    pub(crate) fn rollback(&self, id: &str) -> String {
        format!("{}/{}", self.rollbacks(), escaped(id))
    }

    pub(crate) fn vote(&self, id: &str) -> String {
        format!("{}/vote", self.rollback(id))
    }

    pub(crate) fn approvals(&self) -> String {
        format!("{}/approvals", self.tenant)
    }

    pub(crate) fn new_approval(&self) -> String {
        format!("{}/new", self.approvals())
    }

    pub(crate) fn entry(&self, position: u64) -> String {
        format!("{}/events/{position}", self.tenant)
    }
}

/// Returns the path that starts a sign-in with an issuer.
pub(crate) fn sign_in_with(number: usize, to: &str) -> String {
    format!("{SIGN_IN}/{number}?to={}", escaped(to))
}

/// Returns the path of the sign-in that leads back to a page.
pub(crate) fn sign_in_to(page: &str) -> String {
    format!("{SIGN_IN}?to={}", escaped(page))
}

/// Returns a path with a query without its place, and with another one.
fn next_page(path: &str, query: &str, place: &str) -> String {
    let is_kept = |pair: &&str| {
        let (name, value) = pair.split_once('=').unwrap_or((*pair, ""));
        !value.is_empty() && !PLACES.contains(&name)
    };
    let pairs: Vec<&str> = query.split('&').filter(is_kept).chain([place]).collect();
    format!("{path}?{}", utf8_percent_encode(&pairs.join("&"), NOT_OF_URLS))
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_segment() {
        let paths = Paths::new(Some("a/b"));
        assert_eq!(paths.environment("x?y#z/\"<"), "/t/a%2Fb/environments/x%3Fy%23z%2F%22%3C");
        assert_eq!(paths.vote("é"), "/t/a%2Fb/rollbacks/%C3%A9/vote");
    }

    #[test]
    fn the_next_page_has_the_filters_of_this_one() {
        let paths = Paths::new(Some("a"));
        let query = "phase=failed&before=9&environment=&limit=5&wait_for=3";
        assert_eq!(paths.rollbacks_before(query, 7), "/t/a/rollbacks?phase=failed&limit=5&before=7");
        assert_eq!(paths.rollbacks_before("", 7), "/t/a/rollbacks?before=7");
        assert_eq!(paths.overview_after("service=a%26b\"", "x&y"), "/t/a?service=a%26b%22&after=x%26y");
    }

    #[test]
    fn the_target_of_a_sign_in_is_one_value() {
        assert_eq!(sign_in_with(0, "/t/a?at=1&x=2"), "/signin/0?to=%2Ft%2Fa%3Fat%3D1%26x%3D2");
    }
}
