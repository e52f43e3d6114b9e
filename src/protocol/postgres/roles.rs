//! As which role a session runs.

use crate::config::{RoleConfig, RoleOf};
use crate::identity::SpiffeId;
use crate::policy::PolicyGeneration;

/// The role of a session of `asker`, who asked to be `requested`; none if no entry of the table fits.
///
/// Membership of stages is that of `generation`, by which the session is decided as well.
pub(super) fn role<'a>(
    config: &'a RoleConfig,
    requested: &'a str,
    asker: &SpiffeId,
    generation: &PolicyGeneration,
) -> Option<&'a str> {
    let table = match config {
        RoleConfig::Passthrough => return Some(requested),
        RoleConfig::Fixed(role) => return Some(role),
        RoleConfig::ByIdentity(table) => table,
    };
    let by_stage = table.iter().any(|(of, _)| matches!(of, RoleOf::Stage(_)));
    let principal = by_stage.then(|| generation.principal(asker));
    let fits = |of: &RoleOf| match of {
        RoleOf::Workload(pattern) => pattern.matches(asker),
        RoleOf::Stage(stage) => {
            principal.as_ref().is_some_and(|principal| principal.stages().any(|name| name == &**stage))
        }
    };
    table.iter().find(|(of, _)| fits(of)).map(|(_, role)| &**role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SpiffeIdPattern;
    use crate::policy::PolicySource;

    fn id(path: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://td/{path}")).unwrap()
    }

    fn generation() -> PolicyGeneration {
        let folder = tempfile::tempdir().unwrap();
        let entities = r#"[
            {"uid": {"type": "Workload", "id": "spiffe://td/ns/load"}, "attrs": {},
             "parents": [{"type": "Stage", "id": "load"}]},
            {"uid": {"type": "Stage", "id": "load"}, "attrs": {}, "parents": []}]"#;
        std::fs::write(folder.path().join("entities.json"), entities).unwrap();
        PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap()
    }

    #[test]
    fn the_first_entry_that_fits_names_the_role_and_nobody_else_has_one() {
        let table = RoleConfig::ByIdentity(vec![
            (RoleOf::Workload(SpiffeIdPattern::Exactly(id("ns/admin"))), "adm".into()),
            (RoleOf::Stage("load".into()), "loader".into()),
            (RoleOf::Workload(SpiffeIdPattern::Below(id("ns"))), "reader".into()),
        ]);
        let generation = generation();
        for (asker, expected) in [
            ("ns/admin", Some("adm")),
            ("ns/load", Some("loader")),
            ("ns/load/sub", Some("loader")),
            ("ns/x", Some("reader")),
            ("other", None),
        ] {
            assert_eq!(role(&table, "asked", &id(asker), &generation), expected, "{asker}");
        }
    }

    #[test]
    fn the_role_that_is_asked_for_counts_only_when_it_is_passed_through() {
        let generation = generation();
        assert_eq!(role(&RoleConfig::Passthrough, "asked", &id("a"), &generation), Some("asked"));
        assert_eq!(role(&RoleConfig::Fixed("app".into()), "asked", &id("a"), &generation), Some("app"));
    }
}
