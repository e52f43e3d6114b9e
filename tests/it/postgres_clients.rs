//! Unmodified clients of PostgreSQL through a pair of sidecars.

use super::support::*;

#[tokio::test]
async fn a_server_of_the_harness_has_the_warehouse() {
    for version in [PgVersion::V15, PgVersion::V18] {
        let server = PgPlan::new().version(version).start().await;
        assert_eq!(server.value("SELECT count(*) FROM people").await, "3");
        assert!(server.sessions().await.is_empty());
        let mut wire = PgWire::session(server.address(), "app_role").await;
        assert_eq!(wire.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada");
        assert_eq!(wire.extended("SELECT name FROM people WHERE id = $1::int", &["2"]).await.value(), "Grace");
        assert_eq!(wire.query("SELECT nonsense").await.error().sqlstate(), "42703");
        server.sessions_are("one", |all| all.len() == 1).await;
        wire.terminate().await;
        server.sessions_end().await;
        let told = psql(server.address(), "app_role", &["-c", "SELECT current_user"], "").await;
        assert_eq!(told.stdout, "app_role", "{told:#?}");
    }
}
