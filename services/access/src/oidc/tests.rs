//! Tests of the verification of tokens, against real issuers that serve HTTP on this machine.

mod bad_tokens;
mod good_tokens;
mod issuers;
mod random;
mod sign_ins;
mod support;
mod tls;
