//! What to do about each rule that a certificate, a chain, a handshake or a source of identity can break.
//!
//! `docs/identity.md` has the same table, held by a test; another test looks through the sources for rules that are missing here.

/// A rule's name as records and metrics have it, and what to do when it is broken.
#[derive(Debug, Clone, Copy)]
struct Rule {
    name: &'static str,
    advice: &'static str,
}

/// What to do about a broken rule.
pub(super) fn advice(name: &str) -> &'static str {
    RULES.iter().find(|rule| rule.name == name).map_or("", |rule| rule.advice)
}

const fn rule(name: &'static str, advice: &'static str) -> Rule {
    Rule { name, advice }
}

/// How most certificates that break a rule come to be.
const REISSUE: &str = "issue it again as an X.509-SVID: by SPIRE, or by a profile of your CA that follows the standard";

/// Every rule, grouped as the page shows them.
const RULES: &[Rule] = &[
    // The certificate that authenticates.
    rule("encoding", "look at the file: PEM holds the leaf first, then intermediates, nothing else"),
    rule("version", REISSUE),
    rule("duplicate-extension", REISSUE),
    rule("extension-encoding", REISSUE),
    rule("critical-extension", "take the extension out of the CA's profile, or its critical mark"),
    rule("validity-order", REISSUE),
    rule("ca-flag", "present the leaf, and let the CA only sign"),
    rule("key-usage-present", REISSUE),
    rule("key-usage-critical", REISSUE),
    rule("digital-signature", REISSUE),
    rule("key-cert-sign", REISSUE),
    rule("crl-sign", REISSUE),
    rule("extended-key-usage", "have the CA set both, or leave the extension out"),
    rule("uri-san-count", "leave the SPIFFE ID as the only URI; DNS names may stay"),
    rule("uri-san-encoding", "somebody tries to hide a name: find out who issued it"),
    rule("spiffe-id-length", "shorten the path in the registration entry"),
    rule("spiffe-id-scheme", REISSUE),
    rule("spiffe-id-trust-domain", "write it in lower case, without port or user"),
    rule("spiffe-id-path", "correct the registration entry"),
    rule("spiffe-id-has-path", "give the workload a path in its registration entry"),
    rule("san-critical", REISSUE),
    rule("key-strength", "use ECDSA P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 8192 bits"),
    rule("expired", "see why rotation stopped at its owner: `portcullis doctor` there; then compare the clocks"),
    rule("not-yet-valid", "compare the clocks: the issuer's is ahead, or ours behind"),
    // Who issued it.
    rule("unknown-trust-domain", "if it is a partner: add its bundle, or federate; else somebody strayed here"),
    rule(
        "chain",
        "bring the trust domain's current bundle to where the verifier reads it; a bundle speaks for its own trust domain only",
    ),
    rule("chain-length", "send the leaf and the intermediates, not every certificate there is"),
    rule("issuer-validity", "renew the CA; bring its new certificate to every verifier first"),
    rule("signing-ca-flag", "somebody signs with a leaf: find out who"),
    rule("signing-key-cert-sign", "issue the CA certificate again with keyCertSign"),
    rule("signing-spiffe-id", "issue the CA certificate again with the trust domain's ID, or none"),
    rule("path-length", "raise the path length of the upper CA, or issue from it directly"),
    rule(
        "name-constraints",
        "correct the CA's constraints; those on directory names are not evaluated, and refused with all below",
    ),
    rule("signature-algorithm", "sign with SHA-256 or better"),
    rule("issuer-extended-key-usage", "give the CA certificate serverAuth and clientAuth, or no extended key usage"),
    // Who has been taken back.
    rule("revoked", "nothing, if it is meant; else ask the CA why, and have its owner get a new certificate"),
    rule("crl-expired", "see why the CA's next list does not arrive; `crl.on_expired: allow` bridges that, at a risk"),
    rule("denied-serial", "nothing, if it is meant; else take it out of `deny_serials` and `deny_file`"),
    rule("denied-spiffe-id", "nothing, if it is meant; else take it out of `deny_spiffe_ids` and `deny_file`"),
    rule("crl-signature", "bring the list that the CA itself has signed, and the CA's certificate in the bundle"),
    rule("crl-rollback", "bring the newest list: one with a lower number came after a higher one"),
    rule("crl-too-long", "bring a shorter list: 32 MiB is the most"),
    rule("crl-empty", "write at least one list, PEM or DER"),
    rule("crl-encoding", "write a revocation list, PEM or DER"),
    rule("crl-version", "have the CA publish lists of version 2"),
    rule("crl-next-update", "have the CA say when the next list comes"),
    rule("crl-delta", "bring the complete list"),
    rule("crl-indirect", "bring the list of the CA that issued the certificates"),
    rule("crl-reasons", "bring the list of all reasons"),
    rule("crl-distribution-point", "have the CA publish the list with a full name, or none"),
    rule("crl-critical-extension", "have the CA publish lists without it"),
    // Bundle endpoints.
    rule("timeout", "see whether the endpoint answers, and firewalls in between; the last good bundle stays"),
    rule("connect", "see the name and port of `endpoint_url`, DNS and firewalls; the last good bundle stays"),
    rule(
        "own-trust-domain",
        "take our own trust domain out of `identity.federation`: its bundle comes from our own source",
    ),
    rule("no-endpoint-bundle", "write `bootstrap_bundle`, or bring the bundle of the endpoint's trust domain"),
    rule("bootstrap-bundle", "correct the file that `bootstrap_bundle` names"),
    rule("http", "see what answers at `endpoint_url`: it does not speak HTTP as it should"),
    rule("status", "see what answers at `endpoint_url`: the bundle is a 200"),
    rule("content-encoding", "have the endpoint serve the bundle without compression"),
    rule("too-long", "have the endpoint serve a bundle of at most 1 MiB"),
    rule("redirect", "write the address to which the endpoint redirects, after making sure that it is theirs"),
    rule("sequence-rollback", "ask the partner: the endpoint serves an older bundle than before"),
    // The handshake itself.
    rule("no-certificate", "let the client present its X.509-SVID: it speaks TLS, not mutual TLS"),
    rule("unexpected-peer", "correct `peer` if the answer is right; else see what stands at that address"),
    rule("handshake-signature", "somebody plays back a certificate: find out who"),
    rule("alert", "look at the peer's records for the rule: it verified our certificate, or wanted other TLS versions"),
    rule("tls", "see whether TLS is spoken there at all, and which versions"),
    rule("no-tls", "switch TLS on there: `ssl = on` in postgresql.conf"),
    rule("no-alpn", "use libpq 17 or later, or `sslnegotiation=postgres`"),
    rule("mux-violation", "find out what that workload runs: no sidecar of ours does that"),
    rule("closed", "see whether a load balancer or a port without TLS is in between"),
    rule("handshake-timeout", "see the network and the peer's load; the limit is `limits.handshake_timeout`"),
    rule("host-name", "write the server's DNS name as upstream"),
    rule("server-certificate", "put the CA that issued it into `upstream_ca`, and its host name into the certificate"),
    rule("no-authority", "write a PEM file with the CA's certificate"),
    rule("local-certificate", "correct `local_certificate` and `local_private_key`"),
    rule(
        "peer-expired",
        "nothing: the connection ended with the peer's certificate, and the peer comes back with its next one",
    ),
    // Our own identity.
    rule("no-own-svid", "see `/ready` and `portcullis doctor` for what is waited for"),
    rule("own-svid-expired", "see why rotation stopped: `portcullis doctor`"),
    rule("unreadable-file", "see its path, owner and mode: `portcullis doctor` shows each link"),
    rule("pem", "write it under another name, then rename it into place"),
    rule("private-key", "write it as PKCS#8, SEC1 or PKCS#1, not encrypted"),
    rule("key-mismatch", "replace both together: one file was replaced before the other, or alone"),
    rule("trust-bundle", "see the message: broken PEM, no CA certificate in it, or two for one trust domain"),
    rule("spiffe-id", "bring the certificate of the workload that `identity.spiffe_id` names, or correct that"),
    rule("crl", "see the message: bring complete revocation lists of this trust domain's CAs, PEM or DER"),
    rule("deny-file", "correct the line that the message names: one entry a line, TRUST-DOMAIN/SERIAL or a SPIFFE ID"),
    rule("bundle-twice", "let the trust domain's bundle come from one place: file, Workload API or bundle endpoint"),
    rule("svid-twice", "let our own SVID come from one place"),
    // The Workload API.
    rule(
        "unavailable",
        "see whether the agent runs on this machine, and its socket's path and mount; it is waited for",
    ),
    rule(
        "no_identity",
        "make a registration entry whose selectors fit this process: the agent answers, and knows none",
    ),
    rule("refused", "see what listens at the address: it is no Workload API, or one that wants something else"),
    rule("not_offered", "correct `identity.hint` or `identity.spiffe_id`, or the hint of the registration entry"),
    rule("bad_update", "see the message: what the agent sends does not stand up; the last good identity stays"),
    // Keys of a bundle in JSON that are not used.
    rule("key-type", "nothing, if the kind of key is meant for others: it is left out, the rest of the bundle counts"),
    rule("key-use", "nothing, if the use is meant for others; else publish it as `x509-svid` or `jwt-svid`"),
    rule("key-purpose", "publish keys that sign tokens without another `use` or `key_ops`"),
    rule("no-x5c", "publish an `x509-svid` key with its certificate"),
    rule("x5c", "publish the certificate as base64 of its DER"),
    rule("no-kid", "publish a `jwt-svid` key with a key ID: tokens refer to it"),
    rule("duplicate-kid", "give each key an ID of its own: both are left out, since nobody knows which one is meant"),
    rule("key-member", "publish the key with all members that RFC 7518 asks for"),
    rule("key-curve", "use P-256 or P-384"),
    rule("key-point", "publish the key again: these are no coordinates of a point on its curve"),
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
        assert!(RULES.iter().all(|rule| !rule.advice.is_empty()));
        assert_eq!(advice("no-such-rule"), "");
    }

    /// Where rules of identity and handshakes get their names: in `fn rule`, or as the field `rule` of a refusal.
    #[test]
    fn every_rule_of_the_code_has_advice() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = BTreeSet::new();
        for folder in ["identity", "tls", "listener", "federation", "fetch"] {
            for text in sources(&root.join(folder)) {
                let code = text.split("#[cfg(test)]").next().unwrap();
                let bodies = ["fn rule(&self) -> &'static str {", "fn reason(&self) -> &'static str {"];
                for body in bodies.iter().flat_map(|head| code.split(head).skip(1)) {
                    let body = body.split("\n    }\n").next().unwrap();
                    // Nothing else in such a body is a literal.
                    found.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
                }
                for part in ["rule: \"", "refusal(\"", "=> (\""] {
                    found.extend(code.split(part).skip(1).map(literal));
                }
            }
        }
        assert!(found.len() > 50, "{found:?}");
        let known: BTreeSet<_> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
        let missing: Vec<_> = found.difference(&known).filter(|name| !is_other(name)).collect();
        assert!(missing.is_empty(), "RULES lacks {missing:?}");
        let gone: Vec<_> = known.difference(&found).filter(|name| !ELSEWHERE.contains(&name.as_str())).collect();
        assert!(gone.is_empty(), "no code names {gone:?}");
    }

    /// Rules of handshakes that other folders name, or other forms of code.
    const ELSEWHERE: [&str; 4] = ["no-tls", "no-alpn", "alert", "handshake-signature"];

    /// Causes in these folders that have nothing to do with identity, or tables of their own: those of tokens are in configuration.md.
    fn is_other(name: &str) -> bool {
        name.starts_with("token-") || ["drain-timeout", "connection-age"].contains(&name)
    }

    fn literal(text: &str) -> String {
        text.split('"').next().unwrap().to_owned()
    }

    fn sources(folder: &Path) -> Vec<String> {
        let mut texts = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.ends_with("tests") || path.ends_with("tests.rs") {
                continue;
            }
            if path.is_dir() {
                texts.extend(sources(&path));
            } else {
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
        let documented: Vec<(&str, &str)> = rules
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
            .map(|(name, rest)| (name, rest.rsplit_once(" | ").unwrap().1))
            .collect();
        let known: Vec<(&str, &str)> = RULES.iter().map(|rule| (rule.name, rule.advice)).collect();
        assert_eq!(documented, known);
    }
}
