//! The HTTP API and the write path over a journal in memory and a real Postgres, in the process of each test: rules, SQL
//! and handlers.

mod access;
mod backtest;
mod bounds;
mod brokers;
mod deploy_frequency;
mod followers;
mod foreign;
mod horizon;
mod http;
mod live;
mod manifests;
mod pages;
mod points_and_times;
mod queries;
mod questions;
mod repeats;
mod requests;
mod returns;
mod rollback;
mod subscriptions;
mod tenants;
