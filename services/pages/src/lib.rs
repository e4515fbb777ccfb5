//! HTML pages of the service, rendered from the bodies of the API.
//!
//! Invariants: no I/O, no clock and no rules: a page shows what an answer of the API says. Every text may be hostile:
//! it is escaped, its control and format characters are visible, and it becomes a link only with the scheme `http` or
//! `https`.
//! A page has no script, no inline style and no frame.

mod approval;
mod entry;
mod entry_members;
mod environment;
mod failure;
mod frame;
mod overview;
mod parts;
mod paths;
mod render_error;
mod rollback;
mod rollbacks;
mod shell;
mod shown;
mod sign_in;
mod style;
mod tenants;

pub use approval::{ReleaseQuestion, approval};
pub use entry::entry;
pub use environment::environment;
pub use failure::{RefusedForm, failure};
pub use frame::Frame;
pub use overview::overview;
pub use render_error::RenderError;
pub use rollback::rollback;
pub use rollbacks::rollbacks;
pub use shell::CommandLine;
pub use sign_in::{IssuerLink, sign_in};
pub use style::{icon, icon_path, style, style_path};
pub use tenants::tenants;

#[cfg(test)]
mod tests;
