//! `x-forwarded-client-cert`: who the peer is, for the service behind an inbound listener.
//!
//! # Source
//! Envoy, HTTP header manipulation, `x-forwarded-client-cert`
//! (<https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert>).

use http::HeaderValue;

use crate::identity::SpiffeId;
use crate::tls::Peer;

/// `By=<our ID>;Hash=<SHA-256 of the peer's certificate>;Subject="<its subject>";URI=<its ID>`.
///
/// None for a subject that a header cannot hold: then no claim is made at all.
pub(super) fn header(own: &SpiffeId, peer: &Peer) -> Option<HeaderValue> {
    let svid = peer.svid();
    let mut value = format!("By={own};Hash={};Subject=\"", svid.sha256());
    // Envoy quotes the subject always and escapes a quote in it; a backslash would otherwise hide the closing quote.
    for character in svid.subject().chars() {
        if matches!(character, '"' | '\\') {
            value.push('\\');
        }
        value.push(character);
    }
    value.push_str("\";URI=");
    value.push_str(peer.id().as_str());
    HeaderValue::try_from(value).ok()
}
