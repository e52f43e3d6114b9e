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
    // RFC 4514 has escaped every quote and backslash of the subject already, as Envoy's own text has it: escaped once more, as one
    // might think a quoted string needs, it would be another subject to who reads Envoy's syntax.
    let value = format!("By={own};Hash={};Subject=\"{}\";URI={}", svid.sha256(), svid.subject(), peer.id().as_str());
    HeaderValue::try_from(value).ok()
}
