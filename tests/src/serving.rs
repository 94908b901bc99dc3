//! A TCP server on a thread and a runtime of its own.
//!
//! `#[tokio::test]` gives every test its runtime and ends it with the test; what tests share must live elsewhere.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A running server. Dropping it (or [`Serving::stop`]) breaks its connections and frees its port.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Any free port on the loopback address.
    pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// Binds `address` and gives each connection to `handle`; returns once connections are taken.
    pub fn start<H, F>(address: SocketAddr, handle: H) -> Serving
    where
        H: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, mut stopped) = oneshot::channel();
        let (bound, listening) = std::sync::mpsc::channel();
        let accept = async move {
            let listener = TcpListener::bind(address).await.expect("bind the server's port");
            bound.send(listener.local_addr().expect("the bound address")).expect("tell the address");
            loop {
                let accepted = tokio::select! { accepted = listener.accept() => accepted, _ = &mut stopped => return };
                let Ok((stream, _)) = accepted else { continue };
                // Without it a small answer waits 40 ms for a delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(handle(stream));
            }
        };
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime for the server");
            runtime.block_on(accept);
            // What still hangs on a blocking call must not hold up the test that stops the server.
            runtime.shutdown_background();
        });
        let address = listening.recv().expect("the server starts");
        Serving { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections and stops listening. Stopping again does nothing.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
    }
}
