//! Hostile orders of messages: what stands behind a denial, names that are denied, closed, replaced or overwritten, COPY data that nobody
//! asked for. Everything goes on as PostgreSQL's own error would leave it.

use crate::support::pg_wire::*;
use crate::support::*;

/// Everything but `people.ssn`, the secrets, and deleting people.
const GUARDED: &str = r#"
@id("all") permit (principal, action, resource);
@id("no-ssn") forbid (principal, action in [Action::"sql:Select", Action::"sql:Update"], resource == Table::"wh/analytics.public.people")
  when { context.columns.contains("ssn") };
@id("no-delete") forbid (principal, action == Action::"sql:Delete", resource == Table::"wh/analytics.public.people");
@id("no-secrets") forbid (principal, action, resource == Table::"wh/analytics.sales.secrets");
"#;

#[track_caller]
fn tells_nothing(what: &str, reply: &PgReply) {
    let read = format!("{reply:?}");
    for secret in ["123-45", "678-90", "246-80", "combination"] {
        assert!(!read.contains(secret), "{what}: {reply:#?}");
    }
}

/// The first error is a policy's, its record says so, and nothing of the statement reached the server.
async fn denied(house: &Warehouse, what: &str, reply: &PgReply) {
    let error = reply.errors.first().unwrap_or_else(|| panic!("{what}: not denied: {reply:#?}"));
    assert_eq!(error.sqlstate(), "42501", "{what}: {reply:#?}");
    tells_nothing(what, reply);
    let record = house.inbound.records.of_decision(&error.decision_id()).await;
    assert_eq!((&record["outcome"], &record["sql"]["sqlstate"]), (&"forbidden".into(), &"42501".into()), "{record:#}");
}

fn run(portal: &str, statement: &str) -> Vec<u8> {
    [bind(portal, statement, &[]), execute(portal, 0)].concat()
}

fn describe_portal(name: &str) -> Vec<u8> {
    frame(b'D', format!("P{name}\0"))
}

fn close_portal(name: &str) -> Vec<u8> {
    frame(b'C', format!("P{name}\0"))
}

/// The whole of these messages and their Sync, answered.
async fn synced(wire: &mut PgWire, messages: &[Vec<u8>]) -> PgReply {
    wire.send([messages.concat(), sync()].concat()).await;
    wire.reply().await
}

/// The SQLSTATE of the one error.
async fn fails(wire: &mut PgWire, messages: &[Vec<u8>]) -> String {
    synced(wire, messages).await.error().sqlstate().to_owned()
}

#[tokio::test]
async fn behind_a_denied_parse_everything_up_to_sync_is_skipped() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let denied_parse = || parse("", "DELETE FROM people");
    // With Flush the error comes at once, and nothing else before a Sync: not the Query either, which the server skips too.
    wire.send([denied_parse(), bind("", "", &[]), execute("", 0), flush()].concat()).await;
    let told = wire.reply_to(|frame| frame.tag == b'E').await;
    denied(&house, "Flush", &told).await;
    wire.send(
        [
            query("INSERT INTO parent VALUES (90, 'skipped')"),
            parse("kept", "SELECT 1"),
            run("", "kept"),
            describe_statement("kept"),
            close_statement("kept"),
            flush(),
            copy_data("90\tskipped\n"),
            copy_done(),
            sync(),
        ]
        .concat(),
    )
    .await;
    let reply = wire.reply().await;
    assert_eq!(reply.kinds(), "Z", "{reply:#?}");
    assert_eq!(fails(&mut wire, &[bind("", "kept", &[])]).await, "26000", "it was skipped");
    // Several Syncs have one answer each.
    wire.send([denied_parse(), sync(), sync(), sync()].concat()).await;
    denied(&house, "three Syncs", &wire.reply().await).await;
    assert_eq!((wire.reply().await.kinds().as_str(), wire.reply().await.kinds().as_str()), ("Z", "Z"));
    // What was allowed before it in the same stretch is rolled back with it, also where a Flush has made its success known.
    wire.send([parse("", "INSERT INTO parent VALUES (91, 'first') RETURNING id"), run("", ""), flush()].concat()).await;
    assert_eq!(wire.reply_to(|frame| frame.tag == b'C').await.tags, ["INSERT 0 1"]);
    let reply = synced(&mut wire, &[denied_parse(), run("", "")]).await;
    denied(&house, "behind an INSERT", &reply).await;
    assert_eq!(reply.status, 'I');
    let reply = synced(&mut wire, &[parse("", "INSERT INTO parent VALUES (92, 'alone')"), run("", "")]).await;
    assert_eq!(reply.tags, ["INSERT 0 1"]);
    assert_eq!(
        house.server.value("SELECT string_agg(id::text, ',') FROM parent WHERE id BETWEEN 90 AND 92").await,
        "92"
    );
    assert_eq!(house.server.value("SELECT count(*) FROM people").await, "3");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn names_that_were_denied_closed_or_replaced_run_nothing_else() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let denied_text = "SELECT ssn FROM people";
    // Denied when parsed: there is nothing of that name, in no kind of message.
    denied(&house, "Parse", &synced(&mut wire, &[parse("d", denied_text)]).await).await;
    for (what, message, sqlstate) in [
        ("Bind", bind("", "d", &[]), "26000"),
        ("Describe of a statement", describe_statement("d"), "26000"),
        ("Describe of a portal", describe_portal("d"), "34000"),
        ("Execute", execute("d", 0), "34000"),
    ] {
        assert_eq!(fails(&mut wire, &[message]).await, sqlstate, "{what}");
    }
    assert_eq!(synced(&mut wire, &[close_statement("d"), close_portal("d")]).await.kinds(), "33Z");
    // What was there under the name of a denied Parse is still there, and is what it was.
    synced(&mut wire, &[parse("a", "SELECT name FROM people WHERE id = 1")]).await.ok();
    denied(&house, "the same name", &synced(&mut wire, &[parse("a", denied_text), run("", "a")]).await).await;
    assert_eq!(synced(&mut wire, &[run("", "a")]).await.value(), "Ada");
    assert_eq!(fails(&mut wire, &[parse("a", "SELECT 2")]).await, "42P05");
    assert_eq!(synced(&mut wire, &[run("", "a")]).await.value(), "Ada");
    // Closed and made anew within one stretch.
    let anew = [close_statement("a"), parse("a", "SELECT 'anew'"), run("", "a")];
    assert_eq!(synced(&mut wire, &anew).await.value(), "anew");
    let reply = synced(&mut wire, &[close_statement("a"), parse("a", denied_text), run("", "a")]).await;
    denied(&house, "closed, then denied", &reply).await;
    tells_nothing("closed, then denied", &synced(&mut wire, &[run("", "a")]).await);
    // The unnamed ones: a Parse that is denied, or wrong, takes the one before it away.
    synced(&mut wire, &[parse("", "SELECT 'before'")]).await.ok();
    denied(&house, "unnamed", &synced(&mut wire, &[parse("", denied_text)]).await).await;
    assert_eq!(fails(&mut wire, &[run("", "")]).await, "26000");
    synced(&mut wire, &[parse("", "SELECT 'before'")]).await.ok();
    wire.query("SELECT 1").await.ok();
    assert_eq!(fails(&mut wire, &[run("", "")]).await, "26000", "a Query takes it away");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_portal_is_what_was_bound_last() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    synced(&mut wire, &[parse("one", "SELECT 'one'"), parse("people", "SELECT name FROM people WHERE id = 1")])
        .await
        .ok();
    synced(&mut wire, &[parse("text", "SELECT $1::text")]).await.ok();
    let reply = synced(&mut wire, &[bind("", "one", &[]), bind("", "people", &[]), execute("", 0)]).await;
    assert_eq!(reply.value(), "Ada");
    wire.query("BEGIN").await.ok();
    assert_eq!(synced(&mut wire, &[bind("p", "one", &[]), execute("p", 0)]).await.value(), "one");
    assert_eq!(fails(&mut wire, &[bind("p", "people", &[])]).await, "42P03", "a named one is not replaced");
    wire.query("ROLLBACK; BEGIN").await.ok();
    synced(&mut wire, &[bind("p", "one", &[])]).await.ok();
    synced(&mut wire, &[close_portal("p"), bind("p", "people", &[])]).await.ok();
    assert_eq!(synced(&mut wire, &[execute("p", 0)]).await.value(), "Ada");
    // A Bind that fails leaves nothing of it behind.
    wire.query("COMMIT").await.ok();
    assert_eq!(fails(&mut wire, &[bind("", "text", &[])]).await, "08P01");
    assert_eq!(fails(&mut wire, &[execute("", 0)]).await, "34000");
    // Policies change while a portal is open: it is judged when it runs.
    wire.query("BEGIN").await.ok();
    synced(&mut wire, &[bind("p", "people", &[]), bind("q", "one", &[])]).await.ok();
    let forbid = "@id(\"nobody\") forbid (principal, action == Action::\"sql:Select\", resource == Table::\"wh/analytics.public.people\");";
    house.inbound.replace("policies/test.cedar", &format!("{GUARDED}{forbid}"));
    house.inbound.status_with("the second generation", |status| status["policy"]["generation"] == 2).await;
    assert_eq!(synced(&mut wire, &[execute("q", 0)]).await.value(), "one");
    let reply = synced(&mut wire, &[execute("p", 0)]).await;
    denied(&house, "a portal", &reply).await;
    assert_eq!(reply.status, 'E');
    house.stop_with([wire]).await;
}

/// A cursor that SQL declares is a portal of the protocol, and what SQL prepares outlives a rollback.
#[tokio::test]
async fn sql_and_protocol_run_the_same_things_under_the_same_names() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    wire.query("BEGIN; DECLARE c CURSOR FOR SELECT name FROM people ORDER BY id").await.ok();
    assert_eq!(synced(&mut wire, &[execute("c", 1)]).await.value(), "Ada");
    assert_eq!(wire.query("FETCH c").await.value(), "Grace");
    wire.query("CLOSE c").await.ok();
    assert_eq!(fails(&mut wire, &[execute("c", 1)]).await, "34000");
    wire.query("ROLLBACK; BEGIN; PREPARE kept AS SELECT name FROM people WHERE id = 2; ROLLBACK").await.ok();
    assert_eq!(synced(&mut wire, &[run("", "kept")]).await.value(), "Grace");
    wire.query("DEALLOCATE kept").await.ok();
    denied(&house, "Parse", &synced(&mut wire, &[parse("kept", "SELECT ssn FROM people"), run("", "kept")]).await)
        .await;
    assert_eq!(wire.query("EXECUTE kept").await.error().sqlstate(), "26000");
    wire.query("BEGIN").await.ok();
    denied(&house, "DECLARE", &wire.query("DECLARE d CURSOR FOR SELECT ssn FROM people").await).await;
    wire.query("ROLLBACK").await.ok();
    assert_eq!(fails(&mut wire, &[execute("d", 0)]).await, "34000");
    house.stop_with([wire]).await;
}

/// A prepared text means the table that its name stands for when it is bound: a temporary one that goes uncovers the other.
#[tokio::test]
async fn what_a_temporary_table_covered_is_denied_when_it_is_gone() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    for (what, gone) in [
        ("DROP", "DROP TABLE pg_temp.people"),
        ("DISCARD TEMP", "DISCARD TEMP"),
        ("ROLLBACK", "ROLLBACK"),
        ("COMMIT of ON COMMIT DROP", "COMMIT"),
        ("ROLLBACK TO", "ROLLBACK TO s"),
        ("ALTER RENAME", "ALTER TABLE pg_temp.people RENAME TO others"),
    ] {
        for piped in [false, true] {
            let mut wire = house.session().await;
            let in_block = !["DROP", "DISCARD TEMP", "ALTER RENAME"].contains(&what);
            let drops = if what.starts_with("COMMIT") { "ON COMMIT DROP" } else { "" };
            if in_block {
                wire.query("BEGIN; SAVEPOINT s").await.ok();
            }
            wire.query(&format!("CREATE TEMP TABLE people (id int, ssn text) {drops}")).await.ok();
            wire.query("INSERT INTO people VALUES (1, 'own')").await.ok();
            let own = synced(&mut wire, &[parse("s", "SELECT ssn FROM people"), run("", "s")]).await;
            assert_eq!(own.value(), "own", "{what}");
            if piped {
                wire.send([parse("", gone), run("", ""), sync(), run("", "s"), sync()].concat()).await;
                wire.reply().await.ok();
            } else {
                wire.query(gone).await.ok();
                wire.send([run("", "s"), sync()].concat()).await;
            }
            denied(&house, what, &wire.reply().await).await;
            wire.terminate().await;
        }
    }
    house.stop().await;
}

#[tokio::test]
async fn copy_data_behind_a_denial_goes_nowhere() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    let mut wire = house.session().await;
    let copied = |text: &str| [query(text), copy_data("9\tx\n"), copy_data("10\ty\n"), copy_done()].concat();
    wire.send([copied("COPY sales.secrets FROM STDIN"), query("SELECT 'next'")].concat()).await;
    denied(&house, "simple", &wire.reply().await).await;
    assert_eq!(wire.reply().await.value(), "next");
    let text = "COPY sales.secrets FROM STDIN";
    let messages = [parse("", text), run("", ""), copy_data("9\tx\n"), copy_done(), sync(), query("SELECT 1")];
    denied(&house, "extended", &synced(&mut wire, &messages).await).await;
    assert_eq!(wire.reply().await.value(), "1");
    assert_eq!(wire.reply().await.kinds(), "Z");
    // The data of a COPY that failed is not that of the next.
    wire.send([query("COPY parent (id, note) FROM STDIN"), copy_data("not a number\tx\n")].concat()).await;
    let mut failed = wire.reply().await;
    assert_eq!(failed.errors.remove(0).sqlstate(), "22P02");
    wire.send([copy_data("93\tlate\n"), copy_done(), copied("COPY parent (id, note) FROM STDIN")].concat()).await;
    assert_eq!(wire.reply().await.tags, ["COPY 2"]);
    assert_eq!(house.server.value("SELECT count(*) FROM sales.secrets").await, "1");
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 93").await, "0");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_goodbye_within_copy_commits_nothing_and_leaves_nothing() {
    let world = World::new();
    let house = world.warehouse(GUARDED, "").await;
    for (what, end) in [("Terminate", frame(b'X', b"")), ("half of a message", copy_data("1\tcut")[..6].to_vec())] {
        let mut wire = house.session().await;
        wire.send([query("COPY parent (id, note) FROM STDIN"), copy_data("94\tx\n")].concat()).await;
        assert_eq!(wire.read().await.map(|frame| frame.tag), Some(b'G'), "{what}");
        wire.send(end).await;
        drop(wire);
        house.server.sessions_end().await;
    }
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 94").await, "0");
    // Finished, it is there.
    let mut wire = house.session().await;
    wire.send(
        [query("COPY parent (id, note) FROM STDIN"), copy_data("94\tx\n"), copy_done(), frame(b'X', b"")].concat(),
    )
    .await;
    assert_eq!(wire.rest().await.tags, ["COPY 1"]);
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 94").await, "1");
    let ended = house.inbound.records.find("a COPY", |record| record["sql"]["command"] == "COPY 1");
    ended.await;
    house.stop().await;
}
