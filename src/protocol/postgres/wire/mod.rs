//! The wire protocol, version 3: bytes to packets and messages, and back. No sockets but to be filled from.
//!
//! # Source
//! PostgreSQL, chapter "Frontend/Backend Protocol"; limits by the server's `pqcomm.c`, `postgres.c` and `backend_startup.c`, and
//! libpq's `fe-protocol3.c`.

mod frames;
mod options;
mod packets;
mod replies;
mod startup;

#[cfg(test)]
mod tests;

pub(in crate::protocol::postgres) use frames::{Frame, FrameError, FrameReader, Side};
pub(in crate::protocol::postgres) use options::split as split_options;
pub(in crate::protocol::postgres) use packets::{CancelRequest, FirstPacket, PacketError, packet_length, parse_first};
pub(in crate::protocol::postgres) use replies::{
    ErrorReply, Severity, authentication_ok, authentication_sasl, backend_key_data, error, error_fields, frame,
    negotiate_protocol_version, notice, parameter_status, ready_for_query,
};
pub(in crate::protocol::postgres) use startup::{Replication, Setting, StartupError, StartupPacket};

/// What fuzzing the untyped packets asks: nothing panics, and what is read is written alike.
#[doc(hidden)]
pub fn fuzz_startup(bytes: &[u8]) {
    let Ok(packet) = parse_first(bytes) else { return };
    let written = packet.to_bytes();
    assert_eq!(parse_first(&written).as_ref(), Ok(&packet));
    if let FirstPacket::Startup(startup) = &packet {
        let _refused = startup.settings().map(|settings| settings.len());
    }
}

/// What fuzzing the frames asks: however the bytes are cut, the same frames come out, and no byte is lost.
#[doc(hidden)]
pub fn fuzz_frames(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    for side in [Side::Client { message_bytes: 4_096 }, Side::Server] {
        let whole = frames::read_all(side, bytes, bytes.len().max(1));
        assert_eq!(whole, frames::read_all(side, bytes, usize::from(cut % 16) + 1));
        assert_eq!(
            frames::pass_all(side, bytes, bytes.len().max(1)),
            frames::pass_all(side, bytes, usize::from(cut % 16) + 1)
        );
    }
}
