//! Stands between a client and the API server, and answers wrongly on demand.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::ApiServer;
use crate::cluster::files;

const MAX_HEAD: usize = 16 << 10;

/// What it does with requests, and with the answers that are under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Hands on every request and its answer.
    None,
    /// Closes every connection.
    Refuse,
    /// Takes requests, and never answers; answers under way stop.
    Hang,
    /// Answers everything with 500.
    InternalError,
    /// Answers everything with 200 and something that is no JSON.
    Garbage,
    /// Answers lists with an empty list.
    EmptyLists,
    /// Cuts lists off after a while, and watches at once.
    HalfLists,
    /// Answers watches with 200, and ends them at once.
    CutWatches,
}

/// A proxy in front of an API server; speaks plain HTTP, as an administrator.
#[derive(Debug)]
pub struct FaultyProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
    dir: PathBuf,
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultyProxy {
    /// Starts in front of the API server, handing everything on.
    pub async fn start(server: &ApiServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("listen on loopback");
        let address = listener.local_addr().expect("its address");
        let fault = watch::Sender::new(Fault::None);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let upstream = Upstream {
            port: server.port(),
            tls: TlsConnector::from(Arc::new(tls(server))),
            fault: fault.subscribe(),
            requests: Arc::clone(&requests),
        };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Connections end by themselves, or with a change of the fault.
                tokio::spawn(upstream.clone().serve(stream));
            }
        });
        let dir = server.pki().file("");
        Self {
            address,
            fault,
            requests,
            task,
            dir,
        }
    }

    /// From now on does this. Answers under way are cut, but for [`Fault::Hang`]:
    /// then they stop.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Requests so far, as in `GET /api/v1/pods?limit=500`; forgotten with this.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self
            .dir
            .join(format!("proxy-{}.kubeconfig", self.address.port()));
        let server = format!("http://{}", self.address);
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": server}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        });
        files::write_json(&path, &config);
        path
    }
}

#[derive(Clone)]
struct Upstream {
    port: u16,
    tls: TlsConnector,
    fault: watch::Receiver<Fault>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    // One request; its answer ends with the connection.
    async fn serve(mut self, mut client: TcpStream) {
        let Some(head) = head(&mut client).await else {
            return;
        };
        let line = head.lines().next().unwrap_or_default();
        let line = line.trim_end_matches(" HTTP/1.1").to_owned();
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line.clone());
        let fault = *self.fault.borrow_and_update();
        let is_watch = line.contains("watch=true");
        let is_list = !is_watch && line.contains("limit=");
        let answer = match fault {
            Fault::InternalError => Some(response("500 Internal Server Error", "something broke")),
            Fault::Garbage => Some(response("200 OK", "<html>{\"type\": \"ADDED\"")),
            Fault::EmptyLists if is_list => Some(response(
                "200 OK",
                r#"{"kind":"List","metadata":{"resourceVersion":"99999999"},"items":[]}"#,
            )),
            Fault::CutWatches if is_watch => Some(response("200 OK", "")),
            Fault::Refuse => return,
            Fault::HalfLists if is_watch => return,
            _ => None,
        };
        if let Some(answer) = answer {
            let _ = client.write_all(answer.as_bytes()).await;
            return;
        }
        if fault == Fault::Hang {
            let _ = self.fault.changed().await;
            return;
        }
        let half = fault == Fault::HalfLists && is_list;
        let mut changes = self.fault.clone();
        tokio::select! {
            () = self.hand_on(&head, &mut client, half) => {}
            Ok(()) = changes.changed() => {}
        }
        if *changes.borrow() == Fault::Hang {
            // What is under way stops, and stays open.
            let _ = changes.wait_for(|now| *now != Fault::Hang).await;
        }
    }

    async fn hand_on(&self, head: &str, client: &mut TcpStream, half: bool) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.port)).await else {
            return;
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let Ok(mut server) = self.tls.connect(name, server).await else {
            return;
        };
        let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        if server.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        if half {
            // Its head, and a little of its body.
            let mut first = vec![0; 600];
            let read = server.read(&mut first).await.unwrap_or_default();
            let _ = client.write_all(&first[..read]).await;
        } else {
            let _ = copy(&mut server, client).await;
        }
    }
}

async fn head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 2048];
    while !head.ends_with(b"\r\n\r\n") {
        let read = client.read(&mut buffer).await.ok()?;
        head.extend_from_slice(&buffer[..read]);
        if read == 0 || head.len() > MAX_HEAD {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

fn response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn tls(server: &ApiServer) -> ClientConfig {
    let read = |name: &str| fs::read(server.pki().file(name)).expect("a file of the authority");
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(&read("ca.crt")).expect("the authority");
    roots.add(ca).expect("the authority");
    let certificate = CertificateDer::from_pem_slice(&read("admin.crt")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&read("admin.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .expect("a certificate and its key")
}
