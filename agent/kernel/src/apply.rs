//! Carries steps out, in their order, and says which were refused.

use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::{
    address,
    client::{ClientError, Request},
    diff::{Step, Verb},
    error::{KernelError, PodError},
    layout::{LinkStep, Which, end},
    link,
    model::{PodUid, Settings},
    place::Place,
    route, rule,
    state::{Object, Owner},
    sysctl::Sysctl,
};

/// Steps that did not work, by who is hurt.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) shared: Option<KernelError>,
    pub(crate) pods: Vec<(PodUid, PodError)>,
}

impl Failures {
    fn add(&mut self, place: &Place, step: &Step, source: ClientError) {
        let object = step.object.to_string();
        match &step.owner {
            Some(Owner::Pod(uid)) => {
                self.pods
                    .push((uid.clone(), PodError::Apply { object, source }));
            }
            _ => self.share(KernelError::Apply {
                object,
                place: place.side.name(),
                source,
            }),
        }
    }

    /// The first failure of the shared part is kept: others follow from it.
    pub(crate) fn share(&mut self, error: KernelError) {
        self.shared.get_or_insert(error);
    }
}

/// Carries out steps on objects.
pub(crate) fn steps(
    place: &mut Place,
    settings: &Settings,
    steps: &[Step],
    failures: &mut Failures,
) -> Result<(), KernelError> {
    let is_file = |step: &Step| matches!(step.object, Object::Sysctl { .. });
    for group in steps.chunk_by(|one, other| is_file(one) == is_file(other)) {
        if group.first().is_some_and(is_file) {
            sysctls(place, group, failures)?;
        } else {
            requests(place, settings, group, failures)?;
        }
    }
    Ok(())
}

fn requests(
    place: &mut Place,
    settings: &Settings,
    steps: &[Step],
    failures: &mut Failures,
) -> Result<(), KernelError> {
    let (steps, requests): (Vec<_>, Vec<_>) = steps
        .iter()
        .filter_map(|step| Some((step, request(step, settings.protocol)?)))
        .unzip();
    let refused = place.route.batch(&requests);
    for refused in refused.map_err(place.read("answers to changes"))? {
        let step = steps.get(refused.index);
        if let Some(step) = step.filter(|step| !harmless(step.verb, refused.errno)) {
            failures.add(place, step, refused.into());
        }
    }
    Ok(())
}

/// The object is already as it should be, or will be seen not to be when it is
/// read back.
fn harmless(verb: Verb, errno: Errno) -> bool {
    match verb {
        Verb::Add => errno == Errno::EEXIST,
        Verb::Remove => matches!(
            errno,
            Errno::ENOENT | Errno::ESRCH | Errno::ENODEV | Errno::EADDRNOTAVAIL
        ),
    }
}

fn request(step: &Step, protocol: u8) -> Option<Request> {
    Some(match (&step.object, step.verb) {
        // The kernel's own, as long as the link is there.
        (Object::Sysctl { .. }, _) | (Object::Up { .. }, Verb::Remove) => return None,
        (Object::Up { link }, Verb::Add) => link::set_up(link.index, true),
        (
            Object::Address {
                link,
                address,
                prefix,
                ..
            },
            verb,
        ) => match verb {
            Verb::Add => address::add(link.index, *address, *prefix),
            Verb::Remove => address::remove(link.index, *address, *prefix),
        },
        (Object::Neighbour { link, address, mac }, verb) => match (verb, mac) {
            (Verb::Add, Some(mac)) => address::set_neighbour(link.index, *address, *mac),
            _ => address::remove_neighbour(link.index, *address),
        },
        (Object::Route(route), Verb::Add) => route::add(route, protocol),
        (Object::Route(route), Verb::Remove) => route::remove(route, protocol),
        (Object::Rule(rule), Verb::Add) => rule::add(rule, protocol),
        (Object::Rule(rule), Verb::Remove) => rule::remove(rule, protocol),
    })
}

fn sysctls(place: &Place, steps: &[Step], failures: &mut Failures) -> Result<(), KernelError> {
    let writes: Vec<_> = steps
        .iter()
        .filter_map(|step| match (&step.object, step.verb) {
            (
                Object::Sysctl {
                    link,
                    family,
                    key,
                    value,
                },
                Verb::Add,
            ) => {
                let sysctl = Sysctl {
                    family: *family,
                    link: link.name.clone(),
                    key,
                };
                Some((sysctl, value, step.object.to_string()))
            }
            _ => None,
        })
        .collect();
    let failed = place.inside("sysctls", || {
        let failed = writes
            .into_iter()
            .filter_map(|(sysctl, value, object)| Some((object, sysctl.write(value).err()?)));
        Ok(failed.collect::<Vec<_>>())
    })?;
    for (object, source) in failed {
        failures.share(KernelError::Sysctl {
            object,
            place: place.side.name(),
            source,
        });
    }
    Ok(())
}

/// Carries out steps on links.
pub(crate) fn links(
    settings: &Settings,
    node: &mut Place,
    mut proxy: Option<&mut Place>,
    mtu: u32,
    steps: &[LinkStep],
) -> Result<(), KernelError> {
    for step in steps {
        let (in_proxy, request, tolerated) = match step {
            // Its other end went with it, or with its namespace.
            LinkStep::Delete { in_proxy, link } => {
                (*in_proxy, link::delete(link.index), Some(Errno::ENODEV))
            }
            LinkStep::Correct {
                in_proxy,
                link,
                mac,
                mtu,
            } => (*in_proxy, link::correct(link.index, *mac, *mtu), None),
            LinkStep::Create(which) => {
                let Some(proxy) = proxy.as_deref() else {
                    continue;
                };
                (false, pair(settings, *which, proxy, mtu), None)
            }
        };
        let place = match proxy.as_deref_mut() {
            Some(proxy) if in_proxy => proxy,
            _ => &mut *node,
        };
        match place.route.request(&request) {
            Err(error) if error.errno().is_some() && error.errno() == tolerated => {}
            result => result.map_err(|source| KernelError::Apply {
                object: step.describe(settings),
                place: place.side.name(),
                source,
            })?,
        }
    }
    Ok(())
}

fn pair(settings: &Settings, which: Which, proxy: &Place, mtu: u32) -> Request {
    link::create_pair(
        &end(settings, which, false),
        &end(settings, which, true),
        mtu,
        proxy.netns.file().as_fd(),
    )
}
