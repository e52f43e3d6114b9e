//! What to do about each rule that a certificate, a chain, a handshake or a source of identity can break.
//!
//! `docs/identity.md` has the same table, held by a test; another test looks through the sources for rules that are missing here.

/// A rule's name as records and metrics have it, what is wrong when it is broken, and what to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) broken: &'static str,
    pub(super) advice: &'static str,
}

/// What to do about a broken rule.
pub(super) fn advice(name: &str) -> &'static str {
    RULES.iter().find(|rule| rule.name == name).map_or("", |rule| rule.advice)
}

const fn rule(name: &'static str, broken: &'static str, advice: &'static str) -> Rule {
    Rule { name, broken, advice }
}

/// How most certificates that break a rule come to be.
const REISSUE: &str = "issue it again as an X.509-SVID: by SPIRE, or by a profile of your CA that follows the standard";

/// Every rule, grouped as the page shows them.
pub(super) const RULES: &[Rule] = &[
    // The certificate that authenticates.
    rule("encoding", "the bytes are not exactly one DER certificate", "look at the file: PEM holds the leaf first, then intermediates, nothing else"),
    rule("version", "the certificate is older than X.509 version 3", REISSUE),
    rule("duplicate-extension", "an extension occurs twice", REISSUE),
    rule("extension-encoding", "key usages, constraints or names are malformed", REISSUE),
    rule("critical-extension", "a critical extension that is not known here", "take the extension out of the CA's profile, or its critical mark"),
    rule("validity-order", "the validity ends before it begins", REISSUE),
    rule("ca-flag", "a CA certificate is used as a leaf", "present the leaf, and let the CA only sign"),
    rule("key-usage-present", "there is no key usage extension", REISSUE),
    rule("key-usage-critical", "key usage is not marked critical", REISSUE),
    rule("digital-signature", "key usage lacks digitalSignature", REISSUE),
    rule("key-cert-sign", "a leaf has keyCertSign", REISSUE),
    rule("crl-sign", "a leaf has cRLSign", REISSUE),
    rule("extended-key-usage", "only one of serverAuth and clientAuth", "have the CA set both, or leave the extension out"),
    rule("uri-san-count", "not exactly one URI SAN", "leave the SPIFFE ID as the only URI; DNS names may stay"),
    rule("uri-san-encoding", "the URI has a NUL, a blank, a control or a non-ASCII character", "somebody tries to hide a name: find out who issued it"),
    rule("spiffe-id-length", "the SPIFFE ID is longer than 2048 bytes", "shorten the path in the registration entry"),
    rule("spiffe-id-scheme", "the URI does not begin with `spiffe://`", REISSUE),
    rule("spiffe-id-trust-domain", "the trust domain is not 1 to 255 of a-z 0-9 . - _", "write it in lower case, without port or user"),
    rule("spiffe-id-path", "a path segment is empty, `.`, `..`, or has another character than a-z A-Z 0-9 . - _", "correct the registration entry"),
    rule("spiffe-id-has-path", "the ID names a trust domain, not a workload", "give the workload a path in its registration entry"),
    rule("san-critical", "the subject is empty and the SAN extension not critical", REISSUE),
    rule("key-strength", "a key that is too weak or of a kind that is not taken", "use ECDSA P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 8192 bits"),
    rule("expired", "the certificate's time is over", "see why rotation stopped at its owner: `portcullis doctor` there; then compare the clocks"),
    rule("not-yet-valid", "the certificate's time has not come", "compare the clocks: the issuer's is ahead, or ours behind"),
    // Who issued it.
    rule("unknown-trust-domain", "there is no bundle for the peer's trust domain", "if it is a partner: add its bundle, or federate; else somebody strayed here"),
    rule("chain", "no authority of the peer's trust domain signed it", "bring the trust domain's current bundle to where the verifier reads it; a bundle speaks for its own trust domain only"),
    rule("chain-length", "more than 8 certificates", "send the leaf and the intermediates, not every certificate there is"),
    rule("issuer-validity", "an issuing certificate is expired or not yet valid", "renew the CA; bring its new certificate to every verifier first"),
    rule("signing-ca-flag", "an issuer is no CA certificate", "somebody signs with a leaf: find out who"),
    rule("signing-key-cert-sign", "an issuer lacks keyCertSign", "issue the CA certificate again with keyCertSign"),
    rule("signing-spiffe-id", "an issuer has a workload's ID, or several URIs", "issue the CA certificate again with the trust domain's ID, or none"),
    rule("path-length", "the chain is longer than an issuer allows", "raise the path length of the upper CA, or issue from it directly"),
    rule("name-constraints", "a name outside an issuer's constraints, or constraints on URIs", "correct the CA's constraints; portcullis does not evaluate those on URIs and refuses them all"),
    rule("signature-algorithm", "signed with SHA-1, a weak key, or an algorithm that is not taken", "sign with SHA-256 or better"),
    rule("issuer-extended-key-usage", "an issuer's extended key usage excludes TLS on this side", "give the CA certificate serverAuth and clientAuth, or no extended key usage"),
    // The handshake itself.
    rule("no-certificate", "no certificate was presented", "let the client present its X.509-SVID: it speaks TLS, not mutual TLS"),
    rule("unexpected-peer", "a workload answered that `peer` does not name", "correct `peer` if the answer is right; else see what stands at that address"),
    rule("handshake-signature", "the peer does not hold the key of the certificate it presents", "somebody plays back a certificate: find out who"),
    rule("alert", "the peer refused us by an alert", "look at the peer's records for the rule: it verified our certificate, or wanted other TLS versions"),
    rule("tls", "TLS failed before identity was asked", "see whether TLS is spoken there at all, and which versions"),
    rule("no-tls", "the server does not accept TLS", "switch TLS on there: `ssl = on` in postgresql.conf"),
    rule("no-alpn", "a client of PostgreSQL began TLS at once without the protocol `postgresql`", "use libpq 17 or later, or `sslnegotiation=postgres`"),
    rule("closed", "the connection ended during the handshake", "see whether a load balancer or a port without TLS is in between"),
    rule("handshake-timeout", "the handshake was not finished in time", "see the network and the peer's load; the limit is `limits.handshake_timeout`"),
    rule("host-name", "the upstream's host is no name that a certificate could have", "write the server's DNS name as upstream"),
    rule("server-certificate", "a server that is no sidecar has a certificate that is not trusted", "put the CA that issued it into `upstream_ca`, and its host name into the certificate"),
    rule("no-authority", "`upstream_ca` has no authority that can be used", "write a PEM file with the CA's certificate"),
    rule("local-certificate", "the certificate for local clients cannot be used", "correct `local_certificate` and `local_private_key`"),
    // Our own identity.
    rule("no-own-svid", "there is no SVID of ours yet", "see `/ready` and `portcullis doctor` for what is waited for"),
    rule("own-svid-expired", "our own SVID has expired", "see why rotation stopped: `portcullis doctor`"),
    rule("unreadable-file", "a file cannot be read", "see its path, owner and mode: `portcullis doctor` shows each link"),
    rule("pem", "a file is not PEM: half written, or cut", "write it under another name, then rename it into place"),
    rule("private-key", "no key that can be used", "write it as PKCS#8, SEC1 or PKCS#1, not encrypted"),
    rule("key-mismatch", "the key is another certificate's", "replace both together: one file was replaced before the other, or alone"),
    rule("trust-bundle", "a bundle cannot be used", "see the message: broken PEM, no CA certificate in it, or two for one trust domain"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn no_rule_is_there_twice_or_without_advice() {
        let names: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
        assert!(RULES.iter().all(|rule| !rule.advice.is_empty() && !rule.broken.is_empty()));
        assert_eq!(advice("no-such-rule"), "");
    }

    /// Where rules of identity and handshakes get their names: in `fn rule`, or as the field `rule` of a refusal.
    #[test]
    fn every_rule_of_the_code_has_advice() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = BTreeSet::new();
        for folder in ["identity", "tls", "listener", "federation"] {
            for text in sources(&root.join(folder)) {
                let code = text.split("#[cfg(test)]").next().unwrap();
                for body in code.split("fn rule(&self) -> &'static str {").skip(1) {
                    let body = body.split("\n    }\n").next().unwrap();
                    found.extend(body.split("=> \"").skip(1).map(literal));
                }
                for part in ["rule: \"", "refusal(\"", "=> (\""] {
                    found.extend(code.split(part).skip(1).map(literal));
                }
            }
        }
        assert!(found.len() > 50, "{found:?}");
        let known: BTreeSet<_> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
        let missing: Vec<_> = found.difference(&known).collect();
        assert!(missing.is_empty(), "RULES lacks {missing:?}");
        let gone: Vec<_> = known.difference(&found).filter(|name| !ELSEWHERE.contains(&name.as_str())).collect();
        assert!(gone.is_empty(), "no code names {gone:?}");
    }

    /// Rules of handshakes that other folders name.
    const ELSEWHERE: [&str; 2] = ["no-tls", "no-alpn"];

    fn literal(text: &str) -> String {
        text.split('"').next().unwrap().to_owned()
    }

    fn sources(folder: &Path) -> Vec<String> {
        let mut texts = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                texts.extend(sources(&path));
            } else if !path.ends_with("tests.rs") {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
        texts
    }

    #[test]
    fn the_page_has_each_rule_with_its_advice_and_no_other() {
        let page = include_str!("../../docs/identity.md");
        let (_, rules) = page.split_once("\n## Rules").unwrap();
        let rules = rules.split("\n## ").next().unwrap();
        let documented: Vec<&str> = rules.lines().filter(|line| line.starts_with("| `")).collect();
        let known: Vec<String> =
            RULES.iter().map(|rule| format!("| `{}` | {} | {} |", rule.name, rule.broken, rule.advice)).collect();
        assert_eq!(documented, known, "write:\n{}", known.join("\n"));
    }
}
