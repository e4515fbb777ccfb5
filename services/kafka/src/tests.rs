//! Tests against librdkafka's broker in this process, which can fail on request.

mod broker;
mod consuming;
mod producing;
mod receiver;
