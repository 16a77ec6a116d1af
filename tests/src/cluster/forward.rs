//! A door from the machine's own namespace to the API server: a local port, so
//! that any client works as with any cluster and the machine gets no link.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    thread::JoinHandle,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::lab::netns::Netns;

/// A forwarded port. Dropping it ends it.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    /// Forwards a free port of the caller's namespace to `port` of `netns`.
    pub fn start(netns: &Netns, port: u16) -> Self {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free local port");
        let address = listener.local_addr().expect("the port just bound");
        listener.set_nonblocking(true).expect("a listener");
        let (stop, stopped) = oneshot::channel();
        // The listener stays where it was made; connections are made inside.
        let thread = netns.spawn(move || serve(listener, port, stopped));
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The URL that clients are given.
    pub fn server(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: StdListener, port: u16, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("a listener");
        tokio::select! {
            () = accept(&listener, port) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: &TcpListener, port: u16) {
    while let Ok((mut near, _)) = listener.accept().await {
        tokio::spawn(async move {
            // Either side may go away; the other then sees it closed.
            if let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                let _ = near.set_nodelay(true);
                let _ = far.set_nodelay(true);
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
