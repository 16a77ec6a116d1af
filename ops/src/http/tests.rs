use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn recorder() -> Recorder {
    crate::metrics::install(&[]).unwrap()
}

#[tokio::test]
async fn each_page_says_what_it_is_for() {
    static READY: AtomicBool = AtomicBool::new(false);
    let ready = || match READY.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("no proxy on this node".to_owned()),
    };
    let endpoints = serve(ANY, recorder(), ready).await.unwrap();
    let address = endpoints.address();
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
    let unready = get(address, "/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503"), "{unready}");
    assert!(unready.contains("no proxy on this node"), "{unready}");
    READY.store(true, Ordering::Relaxed);
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
    drop(endpoints);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect(address).await.is_err(), "still open");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = serve(ANY, recorder(), || Ok(())).await.unwrap();
    let error = serve(first.address(), recorder(), || Ok(()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&first.address().to_string()));
}

#[tokio::test]
async fn silent_callers_are_dropped_and_a_probe_gets_through() {
    let endpoints = serve(ANY, recorder(), || Ok(())).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..70 {
        silent.push(TcpStream::connect(endpoints.address()).await.unwrap());
    }
    let begin = Instant::now();
    let answer = get(endpoints.address(), "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begin.elapsed() < Duration::from_secs(9));
    let mut byte = [0; 1];
    assert!(matches!(silent[0].read(&mut byte).await, Ok(0) | Err(_)));
}
