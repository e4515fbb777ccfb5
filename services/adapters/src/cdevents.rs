//! CDEvents, of the specification's versions 0.3.0 to 0.6.
