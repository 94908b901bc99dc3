//! The side-band, encoded: data, progress and a fatal error in packets as long as the client takes.

use crate::pktline::{FLUSH, PACKET_LEN_MAX, PREFIX_LEN};

/// The longest packet of the old `side-band`, prefix included (`DEFAULT_PACKET_MAX`).
const SMALL_PACKET_LEN_MAX: usize = 1_000;

/// What a side-band packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// 1: a piece of the payload.
    Data,
    /// 2: text for the user, shown behind `remote: `.
    Progress,
    /// 3: the server gives up; its last words. Nothing may follow.
    Error,
}

/// How a pack or a report reaches the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SideBand {
    /// As it is: no progress, and an error can only end the connection.
    #[default]
    None,
    /// In packets of at most 995 bytes of data (`side-band`).
    Small,
    /// In packets of at most 65,515 bytes of data (`side-band-64k`; always so in protocol v2).
    Large,
}

impl SideBand {
    /// Most bytes that one packet carries; `None` without packets.
    pub fn data_len_max(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Small => Some(SMALL_PACKET_LEN_MAX - PREFIX_LEN - 1),
            Self::Large => Some(PACKET_LEN_MAX - PREFIX_LEN - 1),
        }
    }

    /// Appends `data` to `out`, in as many packets as it needs (none if it is empty).
    ///
    /// Without a side-band only [`Channel::Data`] is sent.
    pub fn write(self, out: &mut Vec<u8>, channel: Channel, data: &[u8]) {
        let Some(len_max) = self.data_len_max() else {
            if channel == Channel::Data {
                out.extend_from_slice(data);
            }
            return;
        };
        out.reserve(data.len() + data.len().div_ceil(len_max) * (PREFIX_LEN + 1));
        for piece in data.chunks(len_max) {
            out.extend_from_slice(&crate::pktline::prefix(PREFIX_LEN + 1 + piece.len()));
            out.push(channel as u8 + 1);
            out.extend_from_slice(piece);
        }
    }

    /// Appends an empty data packet, which keeps a connection alive while there is nothing to send.
    pub fn write_keepalive(self, out: &mut Vec<u8>) {
        if self != Self::None {
            out.extend_from_slice(b"0005\x01");
        }
    }

    /// Appends the flush packet that ends the payload.
    pub fn write_end(self, out: &mut Vec<u8>) {
        if self != Self::None {
            out.extend_from_slice(FLUSH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sideband::{Demultiplexer, Event};

    #[test]
    fn every_width_comes_apart_again() {
        let data: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        for (band, packets) in [(SideBand::Small, 203), (SideBand::Large, 5)] {
            let mut out = Vec::new();
            band.write(&mut out, Channel::Data, &data);
            band.write_keepalive(&mut out);
            assert_eq!(out.len(), data.len() + 5 * packets);
            band.write(&mut out, Channel::Progress, b"counting\r");
            band.write(&mut out, Channel::Error, b"died\n");
            band.write(&mut out, Channel::Data, b"");
            band.write_end(&mut out);
            let (mut demux, mut got, mut events) = (Demultiplexer::new(), Vec::new(), Vec::new());
            demux.push(&out);
            while let Some(event) = demux.next_event().unwrap() {
                match event {
                    Event::Data(bytes) => got.extend_from_slice(&bytes),
                    other => events.push(other),
                }
            }
            assert_eq!(got, data);
            let progress = Event::Progress(bytes::Bytes::from_static(b"counting\r"));
            assert_eq!(events, [progress, Event::Fatal("died".into()), Event::End]);
        }
        let mut out = Vec::new();
        SideBand::None.write(&mut out, Channel::Progress, b"counting\r");
        SideBand::None.write(&mut out, Channel::Data, b"PACK");
        SideBand::None.write_keepalive(&mut out);
        SideBand::None.write_end(&mut out);
        assert_eq!(out, b"PACK");
    }
}
