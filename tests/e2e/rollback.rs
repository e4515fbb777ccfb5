//! Tests of rollbacks that tell a whole story, or that restart the service.

mod automatic;
mod notifications;
mod random_failures;
mod restart;
mod stories;
