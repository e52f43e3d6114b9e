//! What a startup packet asks: `sql:Connect` on the database, and more for what it sets.

use thiserror::Error;

use super::settings::{Asks, Judged, SettingRefusal, judge};
use super::wire::{Replication, StartupError, StartupPacket};
use crate::mapping::{Action, Context, Operation, Operations, Resource, Value};

/// A startup packet that was understood.
#[derive(Debug)]
pub(super) struct Asked {
    /// The database.
    pub(super) database: Box<str>,
    /// The role that the client asks for.
    pub(super) requested_role: Box<str>,
    /// Whether it is to replicate.
    pub(super) replication: Replication,
    /// What it sets.
    pub(super) judged: Judged,
    /// Everything that has to be permitted.
    pub(super) operations: Operations,
}

/// Why a startup packet is refused whatever the policies say.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum NotAsked {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error(transparent)]
    Setting(#[from] SettingRefusal),
}

impl NotAsked {
    /// The rule, as records name it.
    pub(super) const fn rule(&self) -> &'static str {
        match self {
            Self::Startup(error) => error.rule(),
            Self::Setting(refusal) => refusal.rule(),
        }
    }

    /// What the client is told.
    pub(super) const fn sqlstate(&self) -> &'static str {
        match self {
            Self::Startup(error) => error.sqlstate(),
            Self::Setting(refusal) => refusal.sqlstate(),
        }
    }
}

/// What `startup` asks of a session that is to run as `role`.
///
/// # Errors
/// It cannot be judged.
pub(super) fn asked(startup: &StartupPacket, endpoint: &str, role: &str) -> Result<Asked, NotAsked> {
    let requested_role: Box<str> = startup.user()?.into();
    // Of the client's own name, as the server would take it, and not of the role that it gets.
    let database: Box<str> = startup.database()?.into();
    let replication = startup.replication()?;
    let settings = startup.settings()?;
    let mut options: Vec<Box<str>> = settings
        .iter()
        .filter(|setting| &*setting.name != "application_name")
        .map(|setting| format!("{}={}", setting.name, setting.value).into())
        .collect();
    options.sort_unstable();
    let judged = judge(settings, role)?;

    let resource = Resource::database(endpoint, &database);
    let operation = |action: &'static str, statement: &str| {
        let mut context = Context::default();
        context.set("columns", Value::Strings(Vec::new()));
        context.set("statement", statement);
        context.set("role", role);
        Operation { action: Action::named(action), resource: resource.clone(), context }
    };
    let mut connect = operation("sql:Connect", "connect");
    connect.context.set("requestedRole", &*requested_role);
    connect.context.set_some("applicationName", judged.application_name.as_deref());
    connect.context.set("options", Value::Strings(options));
    let mut operations = Operations::one(connect);
    for (name, asks) in &judged.asks {
        operations.push(match asks {
            Asks::Set => {
                let mut set = operation("sql:Set", "set");
                set.context.set("setting", &**name);
                set
            }
            Asks::SetRole(wanted) => {
                let mut set = operation("sql:SetRole", "set");
                set.context.set("setting", &**name);
                set.context.set("requestedRole", &**wanted);
                set
            }
        });
    }
    if replication != Replication::No {
        operations.push(operation("sql:Replicate", "replicate"));
    }
    Ok(Asked { database, requested_role, replication, judged, operations })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(pairs: &[(&str, &str)]) -> StartupPacket {
        let mut packet = StartupPacket::new(0);
        pairs.iter().for_each(|(name, value)| packet.set(name, value));
        packet
    }

    fn actions(asked: &Asked) -> Vec<&str> {
        asked.operations.iter().map(|operation| operation.action.as_str()).collect()
    }

    #[test]
    fn a_session_asks_to_connect_with_everything_that_its_packet_says() {
        let startup =
            packet(&[("user", "u"), ("database", "db"), ("application_name", "psql"), ("options", "-c DateStyle=ISO")]);
        let asked = asked(&startup, "warehouse", "app").unwrap();
        let connect = asked.operations.first();
        assert_eq!(connect.resource, Resource::database("warehouse", "db"));
        for (name, expected) in
            [("role", "app"), ("requestedRole", "u"), ("applicationName", "psql"), ("statement", "connect")]
        {
            assert_eq!(connect.context.get(name), Some(&expected.into()), "{name}");
        }
        assert_eq!(connect.context.get("options"), Some(&Value::Strings(vec!["datestyle=ISO".into()])));
        assert_eq!(actions(&asked), ["sql:Connect"]);
    }

    #[test]
    fn a_database_that_is_not_named_is_the_one_of_the_clients_own_name() {
        assert_eq!(&*asked(&packet(&[("user", "u")]), "e", "app").unwrap().database, "u");
    }

    #[test]
    fn roles_settings_and_replication_are_asked_beside_it() {
        let startup = packet(&[
            ("user", "u"),
            ("options", "-c role=adm -c session_replication_role=replica"),
            ("replication", "database"),
        ]);
        assert_eq!(
            actions(&asked(&startup, "e", "app").unwrap()),
            ["sql:Connect", "sql:SetRole", "sql:Set", "sql:Replicate"]
        );
        let forged = packet(&[("user", "u"), ("portcullis.spiffe_id", "x")]);
        assert_eq!(asked(&forged, "e", "app").unwrap_err().rule(), "setting-of-the-proxy");
    }
}
