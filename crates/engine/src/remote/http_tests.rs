//! A name whose address is another one whenever it is asked for (DNS rebinding), and what is connected to then.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The address that plays the internet; all others play what is behind the server.
fn is_outside(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// A client whose resolver gives these answers one after the other, an empty one is a failure; how often it was asked.
fn client(answers: &'static [&'static [&'static str]]) -> (Http, Arc<AtomicUsize>) {
    // Fails when another test was first, which is as good.
    _ = rustls::crypto::ring::default_provider().install_default();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let resolver = PublicResolver::new(is_outside, move |_| {
        let answer = answers[count.fetch_add(1, Ordering::SeqCst)];
        async move {
            match answer {
                [] => Err(std::io::Error::other("SERVFAIL")),
                all => Ok(all.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 0)).collect()),
            }
        }
    });
    (Http::resolving(Duration::from_secs(10), resolver), asked)
}

/// A server that gives every connection the same answer.
struct Server {
    port: u16,
    taken: Arc<AtomicUsize>,
}

impl Server {
    /// On an address of this machine; port 0 is any. `answer` knows the port.
    async fn start(ip: &str, port: u16, answer: impl Fn(u16) -> String) -> Server {
        let listener = TcpListener::bind((ip, port)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let taken = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (Arc::clone(&taken), answer(port));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (mut request, mut portion) = (Vec::new(), [0; 4096]);
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut portion).await {
                        Ok(len @ 1..) => request.extend_from_slice(&portion[..len]),
                        _ => break,
                    }
                }
                _ = stream.write_all(answer.as_bytes()).await;
                _ = stream.shutdown().await;
            }
        });
        Server { port, taken }
    }

    /// One that answers as the internet does, and one on the same port behind the server.
    async fn both(answer: impl Fn(u16) -> String) -> (Server, Server) {
        let outside = Self::start("127.0.0.1", 0, answer).await;
        let inside = Self::start("127.0.0.2", outside.port, |_| NOT_FOUND.to_owned()).await;
        (outside, inside)
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    fn site(&self) -> Site {
        let base = Url::parse(&format!("http://rebind.example:{}/o/project", self.port)).expect("a URL");
        Site { base, addresses: Addresses::Public, allow: None, authorization: None }
    }
}

async fn ask(http: &Http, server: &Server) -> Result<(), TransportError> {
    let deadlines = Deadlines::new(Duration::from_secs(30), Duration::from_secs(30));
    http.advertisement(&server.site(), Service::UploadPack, deadlines).await.map(|_| ())
}

/// Goal: the address that was checked is the one that is connected to: a name is asked for once for each connection, and judged each time.
#[tokio::test]
async fn an_address_that_flips_is_not_connected_to() {
    let (outside, inside) = Server::both(|_| NOT_FOUND.to_owned()).await;
    let (http, asked) = client(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.2", "127.0.0.1"], &["::ffff:127.0.0.2"]]);
    let first = ask(&http, &outside).await;
    assert!(matches!(first, Err(TransportError::Auth)), "{first:?}");
    assert_eq!((asked.load(Ordering::SeqCst), outside.taken()), (1, 1));
    let flipped = ask(&http, &outside).await;
    assert!(matches!(flipped, Err(TransportError::NoAddress(_))), "{flipped:?}");
    assert_eq!((asked.load(Ordering::SeqCst), outside.taken()), (2, 1));
    // Among several only the public one is tried.
    let mixed = ask(&http, &outside).await;
    assert!(matches!(mixed, Err(TransportError::Auth)), "{mixed:?}");
    assert_eq!((asked.load(Ordering::SeqCst), outside.taken()), (3, 2));
    let mapped = ask(&http, &outside).await;
    assert!(matches!(mapped, Err(TransportError::NoAddress(_))), "{mapped:?}");
    assert_eq!(inside.taken(), 0);
}

/// Goal: where names cannot be resolved, nothing is connected to, though an address was known a moment ago.
#[tokio::test]
async fn a_failing_resolver_closes_the_door() {
    let (outside, inside) = Server::both(|_| NOT_FOUND.to_owned()).await;
    let (http, _) = client(&[&["127.0.0.1"], &[]]);
    assert!(matches!(ask(&http, &outside).await, Err(TransportError::Auth)));
    let failed = ask(&http, &outside).await;
    assert!(matches!(&failed, Err(TransportError::Connect(text)) if text.contains("SERVFAIL")), "{failed:?}");
    assert_eq!((outside.taken(), inside.taken()), (1, 0));
}

/// Goal: a redirect on the same host is followed to an address that is judged anew.
#[tokio::test]
async fn a_redirect_does_not_follow_a_flip() {
    let moved = |port: u16| {
        let location = format!("http://rebind.example:{port}/moved/info/refs?service=git-upload-pack");
        format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    };
    let (outside, inside) = Server::both(moved).await;
    let (http, asked) = client(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let flipped = ask(&http, &outside).await;
    assert!(matches!(flipped, Err(TransportError::NoAddress(_))), "{flipped:?}");
    assert_eq!((asked.load(Ordering::SeqCst), outside.taken(), inside.taken()), (2, 1, 0));
}
