//! Sluice in a real cluster: installed by its chart, from a label to the packet and
//! back. Steps in the order of a user's life with it; each makes what it needs if
//! it is run alone.

mod bad_input;
mod capture;
mod chained;
mod everything_down;
mod install;
mod late;
mod leave;
mod outages;
mod outside;
mod people;
mod probes;
mod prometheus;
mod quiet;
mod replicas;
mod services;
mod shop;
mod uninstall;
mod upgrade;

use super::shared::Scenario;

/// A user's life with it.
pub(crate) const SCENARIOS: &[Scenario] = &[
    ("before", install::before),
    ("install", install::install),
    ("capture", capture::capture),
    ("late_pod", late::late_pod),
    ("probes", probes::probes),
    ("services", services::services),
    ("outside", outside::outside),
    ("agents_and_controllers_restart", upgrade::restarts),
    ("upgrade_and_roll_back", upgrade::upgrade_and_roll_back),
    ("everything_down", everything_down::everything_down),
    ("for_people", people::for_people),
    ("grpcurl", people::grpcurl),
    ("prometheus", prometheus::prometheus),
    ("leave", leave::leave),
    ("uninstall", uninstall::uninstall),
];

/// Parts that die, lag and lie.
pub(crate) const REPLICAS: &[Scenario] = &[
    ("install", install::install),
    ("replica_killed", replicas::killed),
    (
        "replica_without_the_api_server",
        replicas::without_the_api_server,
    ),
    ("replica_without_agents", replicas::without_agents),
    ("replica_behind", replicas::behind),
    ("replicas_rolled", replicas::rolled),
    ("api_server_gone", outages::gone),
    ("api_server_slow", outages::slow),
    ("tokens_of_others", bad_input::tokens_of_others),
    (
        "tokens_open_nothing_else",
        bad_input::tokens_open_nothing_else,
    ),
    ("big_annotations", bad_input::big_annotations),
    ("flapping_label", bad_input::flapping_label),
    ("annotation_by_a_user", bad_input::annotation_by_a_user),
    ("flood", bad_input::flood),
];

/// What depends on kube-proxy and on address families.
pub(crate) const SHORT: &[Scenario] = &[
    ("before", install::before),
    ("capture", capture::capture),
    ("probes", probes::probes),
    ("services", services::services),
    ("chained", chained::chained),
    ("leave", leave::leave),
    ("uninstall", uninstall::uninstall),
];
