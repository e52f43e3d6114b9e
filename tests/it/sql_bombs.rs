//! Texts that are made to be deep, through a pair of sidecars: each is answered, and the session goes on.

use crate::support::pg_wire::{parse, sync};
use crate::support::*;

/// The text, and what it is answered with: `54001` or nothing.
fn texts() -> Vec<(String, Option<&'static str>)> {
    let deep = 100_000;
    let too_deep = |text: String| (text, Some("54001"));
    let mut texts = vec![
        (format!("SELECT 'a'{}", "||'a'".repeat(999)), None),
        (format!("SELECT 1{}", "+1".repeat(999)), None),
        (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(499)), None),
        (format!("{}SELECT 1{}", "SELECT (".repeat(100), ")".repeat(100)), None),
        (format!("SELECT count(*) FROM people WHERE id IN (0{})", ",1".repeat(10_000)), None),
    ];
    texts.extend(
        [
            "(".repeat(deep),
            format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep)),
            format!("SELECT {}true", "NOT ".repeat(deep)),
            format!("SELECT {}1", "- ".repeat(deep)),
            format!("SELECT 'a'{}", "||'a'".repeat(deep)),
            format!("SELECT 1{}", "+1".repeat(4_000)),
            format!("SELECT 'a'{}", "::text".repeat(deep)),
            format!("SELECT {}1{}", "ARRAY[".repeat(deep), "]".repeat(deep)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(deep / 4)),
            format!("{}SELECT 1{}", "SELECT (".repeat(deep), ")".repeat(deep)),
            format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(deep / 4), " END".repeat(deep / 4)),
            format!("SELECT * FROM people{}", " CROSS JOIN people".repeat(deep / 4)),
            format!("{}SELECT 1{}", "WITH a AS (".repeat(deep / 4), ") SELECT 1".repeat(deep / 4)),
        ]
        .map(too_deep),
    );
    texts
}

#[tokio::test]
async fn deep_texts_are_answered_and_the_session_goes_on() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    for (text, refused) in texts() {
        let start: String = text.chars().take(30).collect();
        let reply = wire.query(&text).await;
        match refused {
            None => assert!(reply.errors.is_empty(), "{start}: {reply:#?}"),
            Some(sqlstate) => {
                assert_eq!((reply.error().sqlstate(), reply.status), (sqlstate, 'I'), "{start}: {reply:#?}");
                wire.send([parse("bomb", &text), sync()].concat()).await;
                assert_eq!(wire.reply().await.error().sqlstate(), sqlstate, "{start}, prepared");
            }
        }
        assert_eq!(wire.query("SELECT 7").await.value(), "7", "after {start}");
    }
    house.stop_with([wire]).await;
}
