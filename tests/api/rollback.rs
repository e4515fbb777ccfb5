//! Rules of release points, rollbacks and the gate.

mod hard_cases;
mod known_good;
mod races;
mod safeguards;
mod search;
