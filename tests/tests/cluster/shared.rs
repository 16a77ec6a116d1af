//! Clusters that are shared by their scenarios.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use libtest_mimic::{Arguments, Failed, Trial};
use sluice_tests::cluster::{Cluster, Options};

/// A scenario: its name, and what is done and shown. It panics when that does not
/// hold, and leaves nothing behind that would disturb the next one.
pub(crate) type Scenario = (&'static str, fn(&mut Cluster));

/// The cluster that is up, or was to be: its name, and nothing when it could not
/// be brought up.
type Current = Arc<Mutex<Option<(&'static str, Option<Cluster>)>>>;

/// All scenarios, cluster by cluster.
#[derive(Default)]
pub(crate) struct Scenarios {
    trials: Vec<Trial>,
    current: Current,
}

impl Scenarios {
    /// Adds scenarios that share a cluster.
    pub(crate) fn cluster(
        &mut self,
        name: &'static str,
        options: &Options,
        scenarios: &[Scenario],
    ) {
        for (scenario, run) in scenarios.iter().copied() {
            let (current, options) = (Arc::clone(&self.current), options.clone());
            self.trials
                .push(Trial::test(format!("{name}::{scenario}"), move || {
                    let start = Instant::now();
                    let done = step(&current, name, options, run);
                    eprintln!("{name}::{scenario}: {:.1} s", start.elapsed().as_secs_f64());
                    done
                }));
        }
    }

    /// Runs what the command line asks for, takes down the last cluster, and ends
    /// the process.
    pub(crate) fn run(self, arguments: &Arguments) -> ! {
        let conclusion = libtest_mimic::run(arguments, self.trials);
        drop(lock(&self.current).take());
        conclusion.exit()
    }
}

fn step(
    current: &Current,
    name: &'static str,
    options: Options,
    run: fn(&mut Cluster),
) -> Result<(), Failed> {
    let mut current = lock(current);
    if current.as_ref().is_none_or(|(up, _)| *up != name) {
        // The old one is gone before the new one comes.
        drop(current.take());
        let start = Instant::now();
        let cluster = panic::catch_unwind(AssertUnwindSafe(|| Cluster::up(options)));
        eprintln!("cluster {name}: {:.1} s", start.elapsed().as_secs_f64());
        *current = Some((name, cluster.ok()));
    }
    match current.as_mut() {
        Some((_, Some(cluster))) => {
            run(cluster);
            Ok(())
        }
        _ => Err(format!("the cluster {name} could not be brought up").into()),
    }
}

fn lock(current: &Current) -> std::sync::MutexGuard<'_, Option<(&'static str, Option<Cluster>)>> {
    // A scenario that failed has panicked while it had the cluster.
    current.lock().unwrap_or_else(PoisonError::into_inner)
}
