//! What the demo prints.

use std::fmt::Write as _;

use super::scenario::Row;
use super::world::World;

/// Who, what, where, outcome, deciding policy.
pub(super) fn render(rows: &[Row]) -> String {
    let head = ["WHO", "WHAT", "DECIDED BY THE", "OUTCOME", "BECAUSE OF"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head)
        .chain(rows.iter().map(|row| {
            let because = match row.policies.as_str() {
                "" => "no policy permits it".to_owned(),
                policies => policies.to_owned(),
            };
            let mark = if row.is_as_expected() { "" } else { "  <- unexpected" };
            let decided = format!("{} sidecar", row.decided_at);
            [row.who.to_owned(), row.what.clone(), decided, row.outcome.clone(), format!("{because}{mark}")]
        }))
        .collect();
    let mut widths = [0_usize; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (width, cell) in widths.iter().zip(line) {
            let _ = write!(row, "{cell:width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// What to try next.
pub(super) fn invitation(world: &World) -> String {
    let folder = world.folder().display();
    let at = |stage| world.stage(stage).map_or_else(String::new, |sidecar| sidecar.address.to_string());
    let (ingest, transform, load) = (at("ingest"), at("transform"), at("load"));
    let warehouse = world.warehouse.as_ref().map_or_else(|_| String::new(), |warehouse| {
        let of = |stage: &str, port: u16| format!("psql -h 127.0.0.1 -p {port} -U {stage} -d analytics -c");
        let (load, analyst) = (of("load", warehouse.load.address.port()), of("analyst", warehouse.analyst.address.port()));
        format!(
            "  {load} \"INSERT INTO orders VALUES (2, 2, 35)\"\n  {analyst} \"SELECT name, sum(amount) FROM people JOIN orders ON customer = people.id GROUP BY name\"\n  {analyst} \"SELECT * FROM people\"          # forbidden: it reads ssn\n\n"
        )
    });
    format!(
        "\
Everything is still running. Each stage reaches the store only through its own sidecar:

  ingest     http://{ingest}
  transform  http://{transform}
  load       http://{load}

Try:

  curl -i -T /etc/hostname http://{ingest}/raw/ingest/hostname
  curl -i http://{transform}/raw/ingest/hostname
  curl -i http://{load}/raw/ingest/hostname                          # not permitted
  curl -i -X DELETE http://{transform}/raw/ingest/hostname           # forbidden

  export AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url http://{transform} s3 cp s3://raw/ingest/orders.csv -
  aws --endpoint-url http://{load} s3 ls s3://raw/                   # not permitted

  python3 -c 'import boto3; print(boto3.client(\"s3\", endpoint_url=\"http://{transform}\").list_objects_v2(Bucket=\"raw\", Prefix=\"ingest/\")[\"KeyCount\"])'

{warehouse}Edit the policies in {folder}/policies and ask again: they are reloaded within a second.
Every decision is in {folder}/*-audit.jsonl. Ctrl-C ends it all."
    )
}
