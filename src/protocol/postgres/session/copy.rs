//! COPY FROM STDIN and START_REPLICATION: the server takes data and nothing else.
//!
//! # Source
//! `CopyGetData` (copyfromparse.c): Flush and Sync are read and ignored, CopyDone and CopyFail end the data, anything else is an error
//! that loses synchronisation and so ends the session.

use super::pipeline::Owed;
use super::record::Running;
use super::session::{End, Session};
use crate::mapping::sql::Copying;
use crate::protocol::postgres::wire::Frame;

impl Session {
    /// Passes COPY data on in one piece, however much of it is there; true if there was any.
    pub(super) fn copy_data(&mut self) -> Result<bool, End> {
        let passed = self.from_client.pass(b"d").map_err(|cause| Self::broken_by_client(&cause))?;
        let Some(passed) = passed else { return Ok(false) };
        // Outside of COPY the server ignores it: what is still under way when COPY has failed.
        if self.copying_in || self.streaming {
            if let Some(running) = self.owed.front_mut().and_then(Owed::running) {
                running.bytes_in += passed.bytes.len() as u64;
            }
            self.to_server.push(passed.bytes);
        }
        Ok(true)
    }

    /// Another message during COPY.
    pub(super) fn in_copy(&mut self, frame: &Frame) -> Result<(), End> {
        if self.streaming {
            return self.in_stream(frame);
        }
        match frame.tag() {
            b'S' | b'H' => Ok(()),
            b'c' | b'f' => {
                self.copying_in = false;
                // Data of a further COPY in the same text has to wait for its CopyInResponse.
                if let Some(Owed::Query(queried)) = self.owed.front() {
                    let copies =
                        |running: &Running| running.statement().is_some_and(|s| s.copying == Some(Copying::In));
                    self.hold_all = frame.tag() == b'c' && queried.running.iter().skip(1).any(copies);
                }
                self.to_server.push(frame.as_bytes().clone());
                Ok(())
            }
            tag => {
                let words = format!("unexpected message type 0x{tag:02X} during COPY from stdin");
                Err(End::refused("message-in-copy", "08P01", words))
            }
        }
    }
    /// Another message during START_REPLICATION: only its end.
    ///
    /// # Source
    /// `ProcessRepliesIfAny` (walsender.c), to which anything but CopyData, CopyDone and Terminate is fatal.
    fn in_stream(&mut self, frame: &Frame) -> Result<(), End> {
        if frame.tag() != b'c' {
            let words = format!("invalid standby message type \"{}\"", char::from(frame.tag()));
            return Err(End::refused("message-in-stream", "08P01", words));
        }
        self.streaming = false;
        // What comes next waits until the server has ended its side too.
        self.hold_all = true;
        self.to_server.push(frame.as_bytes().clone());
        Ok(())
    }
}
