//! `Host` and `:authority` (RFC 9110, section 7.2; RFC 3986, section 3.2).

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// The longest DNS name (RFC 1035, section 2.3.4), its trailing dot included.
const LONGEST_HOST: usize = 254;

/// The host of an authority: lower case, without port and trailing dot; an IPv6 literal keeps its brackets. Or why it has none.
pub(super) fn host_of(authority: &str) -> Result<Cow<'_, str>, &'static str> {
    if authority.contains('@') {
        return Err("it has userinfo");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(_) => {
            let (literal, rest) = authority.split_at(authority.find(']').ok_or("it has a `[` without a `]`")? + 1);
            (literal, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or("its port is malformed")?) })
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if port.is_some_and(|port| !is_port(port)) {
        return Err("its port is malformed");
    }
    if host.starts_with('[') {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<Ipv6Addr>().map_err(|_| "it is not an IPv6 address")?;
    } else if host.is_empty() {
        return Err("it is empty");
    } else if host.len() > LONGEST_HOST || !host.strip_suffix('.').unwrap_or(host).split('.').all(is_label) {
        return Err("it is not a host name or IP address");
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    Ok(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// Whether a host of the configuration (IPv6 with or without brackets) is that of a request.
pub(in crate::mapping) fn is_same_host(known: &str, host: &str) -> bool {
    known == host || host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some_and(|host| known == host)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A DNS label, with the underscore that container networks put in names.
fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_lower_case_without_port_and_trailing_dot() {
        for (authority, host) in [
            ("api.example", "api.example"),
            ("API.Example:8443", "api.example"),
            ("api.example.", "api.example"),
            ("api.example.:80", "api.example"),
            ("127.0.0.1:9000", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[2001:DB8::1]:443", "[2001:db8::1]"),
            ("lake_store:9000", "lake_store"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(host_of(authority).unwrap(), host);
        }
        assert!(matches!(host_of("api.example:80"), Ok(Cow::Borrowed(_))), "the usual host costs no copy");
    }

    #[test]
    fn what_is_no_host_is_refused_with_the_reason() {
        for (authority, why) in [
            ("", "it is empty"),
            (":80", "it is empty"),
            ("user@api.example", "it has userinfo"),
            ("api.example:", "its port is malformed"),
            ("api.example:0", "its port is malformed"),
            ("api.example:+80", "its port is malformed"),
            ("api.example:80:80", "its port is malformed"),
            ("api.example:65536", "its port is malformed"),
            ("[::1]80", "its port is malformed"),
            ("[::1", "it has a `[` without a `]`"),
            ("[api]", "it is not an IPv6 address"),
            ("[[::1]]", "its port is malformed"),
            ("api..example", "it is not a host name or IP address"),
            (".", "it is not a host name or IP address"),
            ("a b", "it is not a host name or IP address"),
            ("a,b", "it is not a host name or IP address"),
            ("a/b", "it is not a host name or IP address"),
            ("a%2eb", "it is not a host name or IP address"),
            ("é", "it is not a host name or IP address"),
        ] {
            assert_eq!(host_of(authority), Err(why), "{authority}");
        }
    }
}
