//! A server that keeps to the protocol and understands next to nothing.

use std::collections::HashMap;

use bytes::BytesMut;

use super::super::messages;
use super::fixture::{complete, data_row, error, say};
use crate::protocol::postgres::wire::{Frame, FrameReader, Side, ready_for_query};

/// A server for as long as one session lives.
pub(super) struct Model {
    reader: FrameReader,
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
    skipping: bool,
    status: u8,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            reader: FrameReader::new(Side::Client { message_bytes: 1 << 20 }, BytesMut::new()),
            statements: HashMap::new(),
            portals: HashMap::new(),
            skipping: false,
            status: b'I',
        }
    }

    /// Everything that the server answers to these bytes.
    pub(super) fn answer(&mut self, mut bytes: &[u8]) -> BytesMut {
        use futures_util::FutureExt as _;
        let mut out = BytesMut::new();
        while !bytes.is_empty() {
            self.reader.fill(&mut bytes).now_or_never().unwrap().unwrap();
        }
        while let Some(frame) = self.reader.next().unwrap() {
            self.message(&frame, &mut out);
        }
        out
    }

    fn message(&mut self, frame: &Frame, out: &mut BytesMut) {
        if frame.tag() == b'S' {
            self.skipping = false;
            self.ready(out);
        } else if !self.skipping {
            self.asked(frame, out);
        }
    }

    fn ready(&mut self, out: &mut BytesMut) {
        if self.status == b'I' {
            self.portals.clear();
        }
        ready_for_query(out, self.status);
    }

    fn asked(&mut self, frame: &Frame, out: &mut BytesMut) {
        let body = frame.body();
        match frame.tag() {
            b'Q' => {
                let text = String::from_utf8(messages::query(body).unwrap().to_vec()).unwrap();
                self.statements.remove(&b""[..]);
                // A text runs in a portal that takes the place of the unnamed one (`exec_simple_query` in postgres.c).
                self.portals.remove(&b""[..]);
                for one in text.split(';').map(str::trim).filter(|one| !one.is_empty()) {
                    if !self.run(one, out, &text) {
                        break;
                    }
                }
                if text.is_empty() {
                    say(out, "I");
                }
                self.ready(out);
            }
            b'P' => {
                let (name, text) = messages::parse(body).unwrap();
                let text = String::from_utf8(text.to_vec()).unwrap();
                if name.is_empty() {
                    self.statements.remove(name);
                }
                if self.fails(&text) || (!name.is_empty() && self.statements.contains_key(name)) {
                    return self.fail(out, &text);
                }
                self.statements.insert(name.to_vec(), text);
                say(out, "1");
            }
            b'B' => {
                let (portal, statement) = messages::bind(body).unwrap();
                match self.statements.get(statement).cloned() {
                    Some(text) => {
                        self.portals.insert(portal.to_vec(), text);
                        say(out, "2");
                    }
                    None => self.fail(out, &String::from_utf8_lossy(statement)),
                }
            }
            b'E' => {
                let (portal, _) = messages::execute(body).unwrap();
                match self.portals.get(portal).cloned() {
                    Some(text) => drop(self.run_extended(&text, out)),
                    None => self.fail(out, &String::from_utf8_lossy(portal)),
                }
            }
            b'D' => say(out, "n"),
            b'C' => {
                let (kind, name) = messages::target(body).unwrap();
                let names = if kind == b'S' { &mut self.statements } else { &mut self.portals };
                names.remove(name);
                say(out, "3");
            }
            b'H' => {}
            other => panic!("{other} was sent"),
        }
    }

    /// What may not be read fails too: so the same server shows what a client is to see through the proxy.
    fn fails(&self, text: &str) -> bool {
        let ends = text == "rollback" || text == "commit";
        text.contains("secret")
            || text.contains("portcullis")
            || text.contains("fails")
            || (self.status == b'E' && !ends)
    }

    fn run_extended(&mut self, text: &str, out: &mut BytesMut) -> bool {
        let ok = self.run(text, out, text);
        self.skipping = !ok;
        ok
    }

    fn run(&mut self, text: &str, out: &mut BytesMut, whole: &str) -> bool {
        if self.fails(text) || whole.contains("secret") {
            self.status = if self.status == b'T' { b'E' } else { self.status };
            error(out, "42703", text);
            return false;
        }
        match text {
            "begin" => self.status = b'T',
            "commit" | "rollback" => self.status = b'I',
            _ => {}
        }
        if let Some(setting) = text.strip_prefix("SHOW ") {
            let values = [("search_path", "public"), ("role", "none"), ("session_authorization", "app")];
            let known = values.iter().find(|(name, _)| *name == setting).map(|(_, value)| *value);
            data_row(out, known.unwrap_or(if setting == "client_encoding" { "UTF8" } else { "on" }));
        } else if text.starts_with("select") {
            data_row(out, text);
        }
        complete(out, "SELECT 1");
        true
    }

    fn fail(&mut self, out: &mut BytesMut, message: &str) {
        self.skipping = true;
        self.status = if self.status == b'T' { b'E' } else { self.status };
        error(out, "42703", message);
    }
}
