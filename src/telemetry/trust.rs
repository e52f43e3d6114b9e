//! Until when each trust domain's bundle verifies somebody. Kept beside the recorder: a bundle that is gone leaves no series behind.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;

use super::catalogue::{CATALOGUE, TRUST_BUNDLE_EXPIRY};
use super::metrics::timestamp;

static BUNDLES: ArcSwapOption<Vec<BundleExpiry>> = ArcSwapOption::const_empty();

/// When the authorities of a trust domain expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleExpiry {
    /// The trust domain.
    pub trust_domain: String,
    /// The first of them.
    pub first: SystemTime,
    /// The last of them: nobody from there can be verified then.
    pub last: SystemTime,
}

/// These bundles are in force from now on, and no others.
pub fn bundles_in_force(bundles: Vec<BundleExpiry>) {
    BUNDLES.store(Some(Arc::new(bundles)));
}

/// Adds them to what the recorder has.
pub(super) fn render(text: &mut String) {
    if let Some(bundles) = BUNDLES.load().as_ref().filter(|bundles| !bundles.is_empty()) {
        write(text, bundles);
    }
}

fn write(text: &mut String, bundles: &[BundleExpiry]) {
    let Some(metric) = CATALOGUE.iter().find(|metric| metric.name == TRUST_BUNDLE_EXPIRY) else { return };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {}", metric.name, metric.help, metric.name, metric.kind.as_str());
    for BundleExpiry { trust_domain, first, last } in bundles {
        for (authority, end) in [("first", first), ("last", last)] {
            // A trust domain is a-z 0-9 . - _, so there is nothing to escape.
            let labels = format!("{{trust_domain=\"{trust_domain}\",authority=\"{authority}\"}}");
            let _ = writeln!(text, "{}{labels} {}", metric.name, timestamp(*end));
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn each_bundle_has_its_first_and_its_last_authority() {
        let bundle = BundleExpiry {
            trust_domain: "a.test".to_owned(),
            first: UNIX_EPOCH + Duration::from_secs(1_000),
            last: UNIX_EPOCH + Duration::from_secs(2_000),
        };
        let mut text = String::new();
        write(&mut text, &[bundle]);
        let name = "portcullis_trust_bundle_expiry_timestamp_seconds";
        assert!(text.contains(&format!("# TYPE {name} gauge\n")), "{text}");
        assert!(text.contains(&format!("{name}{{trust_domain=\"a.test\",authority=\"first\"}} 1000\n")), "{text}");
        assert!(text.contains(&format!("{name}{{trust_domain=\"a.test\",authority=\"last\"}} 2000\n")), "{text}");
    }
}
