//! Names of Services inside the cluster: `NAME.NAMESPACE.svc.cluster.local`, as
//! addresses, asked of the API server at each question. Real clusters run CoreDNS;
//! this is the part of it that pods of a test need.

mod message;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use k8s_openapi::api::core::v1::Service;
use tokio::{net::UdpSocket, sync::oneshot};

use crate::lab::netns::Netns;

use self::message::{Answer, Question};

const PORT: u16 = 53;
const SUFFIX: &str = ".svc.cluster.local";
/// Less than resolvers wait before they ask again.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running name server. Dropping it ends it.
#[derive(Debug)]
pub struct Dns {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Answers on `address` in `netns`, with what the API server of `kubeconfig`
    /// says; the kubeconfig is one for inside that namespace.
    pub fn start(netns: &Netns, address: IpAddr, kubeconfig: PathBuf) -> Self {
        let socket = netns
            .enter(|| std::net::UdpSocket::bind((address, PORT)))
            .unwrap_or_else(|error| panic!("cannot bind udp {address} {PORT}: {error}"));
        socket.set_nonblocking(true).expect("a socket");
        let (stop, stopped) = oneshot::channel();
        let thread = netns.spawn(move || run(socket, &kubeconfig, stopped));
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(socket: std::net::UdpSocket, kubeconfig: &std::path::Path, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = super::client_of(kubeconfig).await;
        let socket = Arc::new(UdpSocket::from_std(socket).expect("a socket"));
        tokio::select! {
            () = serve(socket, client) => {}
            _ = stopped => {}
        }
    });
}

async fn serve(socket: Arc<UdpSocket>, client: kube::Client) {
    let mut buffer = [0; 1500];
    loop {
        // An error is a client's port that is closed by now.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Some(question) = Question::parse(&buffer[..length]) else {
            continue;
        };
        let (socket, client) = (Arc::clone(&socket), client.clone());
        tokio::spawn(reply(socket, client, question, peer));
    }
}

async fn reply(socket: Arc<UdpSocket>, client: kube::Client, question: Question, peer: SocketAddr) {
    let found = tokio::time::timeout(PATIENCE, look_up(client, &question.name)).await;
    let answer = found.unwrap_or(Answer::Failed);
    // Whoever asked asks again.
    let _ = socket.send_to(&question.answer(&answer), peer).await;
}

async fn look_up(client: kube::Client, name: &str) -> Answer {
    let Some((service, namespace)) = service_of(name) else {
        return Answer::NoSuchName;
    };
    let services = kube::Api::<Service>::namespaced(client, namespace);
    match services.get_opt(service).await {
        Ok(Some(service)) => {
            let spec = service.spec.unwrap_or_default();
            let addresses = spec.cluster_ips.unwrap_or_default();
            Answer::Addresses(addresses.iter().filter_map(|ip| ip.parse().ok()).collect())
        }
        Ok(None) => Answer::NoSuchName,
        Err(_) => Answer::Failed,
    }
}

fn service_of(name: &str) -> Option<(&str, &str)> {
    let (service, namespace) = name.strip_suffix(SUFFIX)?.split_once('.')?;
    (!service.is_empty() && !namespace.contains('.')).then_some((service, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_have_names() {
        let expected = Some(("web", "shop"));
        assert_eq!(service_of("web.shop.svc.cluster.local"), expected);
        for other in [
            "web.shop.svc.cluster.local.shop.svc.cluster.local",
            "shop.svc.cluster.local",
            ".shop.svc.cluster.local",
            "example.com",
        ] {
            assert_eq!(service_of(other), None, "{other}");
        }
    }
}
