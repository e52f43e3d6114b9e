//! Which headers hold secrets.

/// What people are shown, and records say, in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Words that make a header a secret one wherever they stand in its name.
const SECRET_WORDS: [&str; 15] = [
    "authorization",
    "cookie",
    "token",
    "tokens",
    "secret",
    "password",
    "passwd",
    "credential",
    "credentials",
    "signature",
    "assertion",
    "jwt",
    "apikey",
    "session",
    "auth",
];

/// Whether the values of a header or claim of this name stay out of records and explanations.
///
/// `authorization`, `proxy-authorization`, `cookie`, `set-cookie`, `x-amz-security-token`, `x-auth-token`, `x-api-key`,
/// `x-amz-server-side-encryption-customer-key` and all that are named like them: any word of
/// the list between `-` or `_`, or a name that ends in `key`. Too many rather than too few: a policy sees the value all the same.
#[must_use]
pub fn is_secret_header(name: &str) -> bool {
    let mut words = name.split(['-', '_', '.']);
    words.clone().next_back().is_some_and(|last| last.eq_ignore_ascii_case("key"))
        || words.any(|word| SECRET_WORDS.iter().any(|secret| word.eq_ignore_ascii_case(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_hold_secrets_are_known_in_every_spelling() {
        for name in [
            "authorization",
            "Authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-amz-security-token",
            "x-auth-token",
            "x_auth_token",
            "x-vault-token",
            "x-api-key",
            "api-key",
            "apikey",
            "x-client-secret",
            "x-amz-server-side-encryption-customer-key",
            "x-amz-copy-source-server-side-encryption-customer-key",
            "x-hub-signature-256",
            "x-goog-iam-authorization-token",
            "x-forwarded-password",
        ] {
            assert!(is_secret_header(name), "`{name}`");
        }
    }

    #[test]
    fn other_headers_are_written() {
        for name in [
            "x-tenant",
            "content-type",
            "x-amz-acl",
            "x-amz-tagging",
            "x-amz-server-side-encryption-aws-kms-key-id",
            "host",
            "keyboard",
            "accept",
            "",
        ] {
            assert!(!is_secret_header(name), "`{name}`");
        }
    }
}
