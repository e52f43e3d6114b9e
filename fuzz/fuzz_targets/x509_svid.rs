//! X.509-SVIDs: what `parse` takes breaks no rule of those that `judge` explains.
#![no_main]

use portcullis::identity::{RuleOutcome, X509Svid, judge};

libfuzzer_sys::fuzz_target!(|der: &[u8]| {
    let verdicts = judge(der);
    if X509Svid::parse(der).is_ok() {
        let broken = verdicts.iter().find(|verdict| matches!(verdict.outcome, RuleOutcome::Broken(_)));
        assert!(broken.is_none(), "{broken:?}");
    }
});
