//! Asks whether the API server is still there while nothing is heard of it:
//! a watch over a dead connection looks like one in which nothing happens.

use std::time::{Duration, Instant};

use kube::Client;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    api,
    contact::Contact,
    failure::{Failure, Trouble},
};
use crate::ops::metrics as recorded;

const TICK: Duration = Duration::from_secs(2);
/// After this much silence it is asked.
const SILENCE: Duration = Duration::from_secs(8);

/// Asks until nobody listens.
pub(super) async fn run(
    client: Client,
    cluster: String,
    contact: Contact,
    sink: watch::Sender<Option<Trouble>>,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = sink.closed() => return,
        }
        let ages = contact.ages();
        for (collection, age) in &ages {
            recorded::source_contact(collection, *age);
        }
        let silence = ages.iter().map(|(_, age)| *age).max().unwrap_or_default();
        if silence < SILENCE {
            well(&sink);
            continue;
        }
        match ask(&client, &cluster).await {
            Ok(()) => {
                contact.answers();
                well(&sink);
            }
            Err(failure) => ill(&sink, &failure, silence),
        }
    }
}

async fn ask(client: &Client, cluster: &str) -> Result<(), Failure> {
    let found = api::cluster(client).await?;
    if found == cluster {
        return Ok(());
    }
    let known = cluster.to_owned();
    Err(Failure::OtherCluster { known, found })
}

fn well(sink: &watch::Sender<Option<Trouble>>) {
    let changed = sink.send_if_modified(|trouble| trouble.take().is_some());
    if changed {
        info!("the API server answers again");
    }
}

fn ill(sink: &watch::Sender<Option<Trouble>>, failure: &Failure, silence: Duration) {
    recorded::source_error("probe", failure.word());
    let reason = failure.to_string();
    sink.send_modify(|trouble| {
        let before = trouble.take();
        if before.is_none() {
            warn!(reason, "the API server is silent, and does not answer");
        }
        *trouble = Some(Trouble {
            since: before
                .as_ref()
                .map_or_else(|| Instant::now() - silence, |t| t.since),
            tries: before.map_or(0, |t| t.tries).saturating_add(1),
            reason: reason.into(),
        });
    });
}
