//! Members of an event as rows.

use serde_json::Value;

use crate::shown::{shown, shown_lines, web_link};

/// Maximum number of rows: the raw event shows the rest.
const MAX_ROWS: usize = 200;

/// Member of an event.
pub(crate) struct Member {
    /// Path from the event, such as `data.release.version`.
    pub(crate) name: String,
    pub(crate) value: String,
    /// The value, if it is the address of a web page.
    pub(crate) link: Option<String>,
}

/// Members of an event.
pub(crate) struct Members {
    pub(crate) rows: Vec<Member>,
    /// True if the event has more members.
    pub(crate) is_cut: bool,
}

impl Members {
    pub(crate) fn new(event: &Value) -> Self {
        let mut members = Self { rows: Vec::new(), is_cut: false };
        members.add("", event);
        members
    }

    fn add(&mut self, name: &str, value: &Value) {
        if self.rows.len() >= MAX_ROWS {
            self.is_cut = true;
            return;
        }
        match value {
            Value::Object(object) if !object.is_empty() => {
                for (key, value) in object {
                    let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                    self.add(&name, value);
                }
            }
            Value::Array(list) if !list.is_empty() => {
                for (index, value) in list.iter().enumerate() {
                    self.add(&format!("{name}[{index}]"), value);
                }
            }
            Value::String(text) => self.push(name, text),
            other => self.push(name, &other.to_string()),
        }
    }

    fn push(&mut self, name: &str, value: &str) {
        self.rows.push(Member { name: shown(name), value: shown_lines(value), link: web_link(value) });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(event: &Value) -> Vec<(String, String)> {
        Members::new(event).rows.into_iter().map(|member| (member.name, member.value)).collect()
    }

    #[test]
    fn nested_members_have_their_path_as_name() {
        let event = json!({"id": "a", "data": {"lanes": [{"service": "web"}], "links": [], "count": 2}});
        let mut found = rows(&event);
        found.sort();
        let expected =
            [("data.count", "2"), ("data.lanes[0].service", "web"), ("data.links", "[]"), ("id", "a")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_large_event_is_cut() {
        let members = Members::new(&json!({"data": vec![1; MAX_ROWS + 1]}));
        assert_eq!(members.rows.len(), MAX_ROWS);
        assert!(members.is_cut);
        assert!(!Members::new(&json!({"data": vec![1; MAX_ROWS]})).is_cut);
    }

    #[test]
    fn only_web_addresses_are_links() {
        let members = Members::new(&json!(["https://ci.example/1", "javascript:alert(1)"]));
        let links: Vec<_> = members.rows.into_iter().map(|member| member.link).collect();
        assert_eq!(links, [Some("https://ci.example/1".to_owned()), None]);
    }
}
