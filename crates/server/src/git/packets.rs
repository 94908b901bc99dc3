//! Answers that stream: a thread writes, the connection takes. Neither runs ahead of the other by more than a few packets.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;
use treehold_wire::serve::{Channel, SideBand};

/// Bytes of payload that are sent at once.
const PART: usize = 128 << 10;
/// Parts on their way.
const PARTS: usize = 4;
/// Silence after which a sign of life is sent, as git does (`uploadpack.keepAlive`).
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The writing side. For threads that may block, but for [`Packets::tell`] and [`Packets::close`].
pub(super) struct Packets {
    sender: mpsc::Sender<Bytes>,
    band: SideBand,
    part: Vec<u8>,
}

/// An answer: what is said before the payload, and the payload.
pub(super) fn open(band: SideBand, head: Vec<u8>) -> (Packets, impl Stream<Item = Result<Bytes, io::Error>> + Send) {
    let (sender, receiver) = mpsc::channel(PARTS);
    let packets = Packets { sender, band, part: Vec::with_capacity(PART) };
    let first = (!head.is_empty()).then(|| Bytes::from(head));
    let stream = futures::stream::unfold((first, receiver), move |(first, mut receiver)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, receiver)));
        }
        let part = match tokio::time::timeout(KEEPALIVE, receiver.recv()).await {
            Ok(part) => part?,
            Err(_) if band == SideBand::None => receiver.recv().await?,
            Err(_) => {
                let mut alive = Vec::new();
                band.write_keepalive(&mut alive);
                alive.into()
            }
        };
        Some((Ok(part), (None, receiver)))
    });
    (packets, stream)
}

impl Packets {
    /// Somebody to send words to the user by, as long as there is room for them.
    pub fn voice(&self) -> Voice {
        Voice { sender: self.sender.clone(), band: self.band }
    }

    /// Sends bytes that are packets already.
    pub async fn send(&mut self, packets: Vec<u8>) {
        // A client that went away is no reason for anything.
        let _ = self.sender.send(packets.into()).await;
    }

    /// Ends the answer; what was written is flushed first.
    pub async fn close(mut self) {
        let mut out = self.take();
        self.band.write_end(&mut out);
        self.send(out).await;
    }

    fn take(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.band.write(&mut out, Channel::Data, &self.part);
        self.part.clear();
        out
    }
}

impl io::Write for Packets {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..len]);
        if self.part.len() == PART {
            self.flush()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        let out = self.take();
        if out.is_empty() {
            return Ok(());
        }
        Ok(self.sender.blocking_send(out.into()).map_err(|_| io::ErrorKind::BrokenPipe)?)
    }
}

/// Words beside the payload.
#[derive(Clone)]
pub(super) struct Voice {
    sender: mpsc::Sender<Bytes>,
    band: SideBand,
}

impl Voice {
    /// Says something to the user, if there is room for it now.
    pub fn say(&self, text: &str) {
        let mut out = Vec::new();
        self.band.write(&mut out, Channel::Progress, text.as_bytes());
        if !out.is_empty() {
            let _ = self.sender.try_send(out.into());
        }
    }

    /// Waits until the client is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Says why there is no more; the answer is not ended, so that nobody takes it for whole.
    pub async fn give_up(self, why: &str) {
        let mut out = Vec::new();
        self.band.write(&mut out, Channel::Error, format!("{why}\n").as_bytes());
        if !out.is_empty() {
            let _ = self.sender.send(out.into()).await;
        }
    }
}
