//! `docs/s3-actions.md` is written from the table: `BLESS=1 cargo test s3::tests::page` after a change.

use std::fmt::Write as _;

use crate::mapping::s3::actions::ACTIONS;
use crate::mapping::s3::table::{About, Level, Row, Source, TABLE};

const INTRODUCTION: &str = "\
# S3: which request asks for what

<!-- Written by a test from src/mapping/s3/table.rs and actions.rs. After a change there: BLESS=1 cargo test --lib s3::tests::page -->

Every request to a listener with `protocol: s3` becomes one operation of the S3 API and one or more actions with the names of AWS's
[Service Authorization Reference](https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html). All of them
must be permitted. A request that fits no row below is refused and not forwarded: what cannot be named cannot be judged.

## What an action is asked about

- Objects: `Object::\"ENDPOINT/BUCKET/KEY\"`, below the `Prefix` of each of the key's folders, its `Bucket`, its `Endpoint`. The key is what
  the store decodes: each `%XX` once, `%2F` is the key's own slash, `+` is a plus.
- Buckets: `Bucket::\"ENDPOINT/BUCKET\"`. The list of buckets: `Endpoint::\"ENDPOINT\"`.
- Lists: the `Prefix` of the whole segments of the call's `prefix` (`ingest/2026` lists inside `Prefix::\"lake/raw/ingest\"`), else the `Bucket`;
  `context.prefix` and `context.delimiter` hold what was asked.
- With `versionId`, the action of the column \"by version\" takes the place of the other.

## Headers that ask for more

| header | also asks |
|---|---|
| `x-amz-copy-source` | `s3:GetObject` or, with `versionId`, `s3:GetObjectVersion` on the source |
| `x-amz-rename-source` | `s3:GetObject` and `s3:DeleteObject` on the source |
| `x-amz-acl`, `x-amz-grant-*` | `s3:PutObjectAcl`; on a bucket `s3:PutBucketAcl` |
| `x-amz-tagging`, `x-amz-tagging-directive` | `s3:PutObjectTagging`; with `COPY` also `s3:GetObjectTagging` or `s3:GetObjectVersionTagging` on the source |
| `x-amz-object-annotation-directive: COPY` | `s3:PutObjectAnnotation`, and `s3:GetObjectAnnotation` or `s3:GetObjectVersionAnnotation` on the source |
| `x-amz-object-lock-mode`, `x-amz-object-lock-retain-until-date` | `s3:PutObjectRetention` |
| `x-amz-object-lock-legal-hold` | `s3:PutObjectLegalHold` |
| `x-amz-bypass-governance-retention` | `s3:BypassGovernanceRetention`; in DeleteObjects of each key |
| `x-amz-bucket-object-lock-enabled` | `s3:PutBucketObjectLockConfiguration`, `s3:PutBucketVersioning` |
| `x-amz-object-ownership` | `s3:PutBucketOwnershipControls` |

A header that is hoisted into a presigned URL counts as the header. A header of this list, or one that the context holds, may be there once.

## What is refused

- A Host that is neither an IP address, `localhost`, in `hosts`, in `host_suffixes`, nor `BUCKET.` and one of `host_suffixes`.
- Bucket names that break the naming rules, or are percent-encoded. Keys with `.`, `..` or empty segments (unless
  `unsafe_allow_dot_segments`), NUL, more than 1,024 bytes, or bytes that are not UTF-8.
- Query keys that no row knows, that are repeated, percent-encoded, in another case, or separated by `;`; values where none belongs.
- `x-amz-*` headers that are not of the S3 API, and the headers by which other stores take a request for another operation (`x-minio-*`,
  `x-goog-*`, unpacking uploads by `x-amz-meta-snowball-auto-extract` …).
- Copy sources that are ARNs, or have a plain `+`, `;`, `#` or a second `?`: stores read those differently. Percent-encoded they are fine.
- Form uploads (the key is in the body), RestoreObject with an output location, DeleteObjects and RestoreObject with an encoded body.
- Every upgrade, and methods other than GET, HEAD, PUT, POST and DELETE.

## Requests

`KEY=…` must have a value. Further keys may be there; so may those of a presigned URL, and `x-id`, which decides nothing.
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (level, title) in [(Level::Object, "Objects"), (Level::Bucket, "Buckets"), (Level::Service, "The service")] {
        write!(
            page,
            "\n### {title}\n\n| request | further keys | operation | actions | by version |\n|---|---|---|---|---|\n"
        )
        .unwrap();
        for row in TABLE.iter().filter(|row| row.level == level) {
            let plain: Vec<_> = row.asks.iter().map(|(plain, _)| format!("`{plain}`")).collect();
            let versioned: Vec<_> = row
                .asks
                .iter()
                .filter(|(plain, versioned)| plain != versioned)
                .map(|(_, versioned)| format!("`{versioned}`"))
                .collect();
            let further: Vec<_> = row.further.iter().map(|key| format!("`{key}`")).collect();
            writeln!(
                page,
                "| {} | {} | {} | {} | {} |",
                request(row),
                further.join(" "),
                operation(row),
                plain.join(" "),
                versioned.join(" ")
            )
            .unwrap();
        }
    }
    page.push_str("\n## Groups\n\nEach action is in exactly one group, so that a rule can be written once for S3, SQL and HTTP.\n\n| action | group | about |\n|---|---|---|\n");
    for (action, group, kinds) in ACTIONS {
        let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
        writeln!(page, "| `{action}` | `{}` | {} |", group.as_str(), kinds.join(", ")).unwrap();
    }
    page
}

fn request(row: &Row) -> String {
    let keys: Vec<_> = row.query.iter().map(|key| key.replace('*', "…")).collect();
    let query = if keys.is_empty() { String::new() } else { format!(" ?{}", keys.join("&")) };
    let header = match row.source {
        Source::No => "",
        Source::Copied => " with `x-amz-copy-source`",
        Source::Renamed => " with `x-amz-rename-source`",
    };
    format!("`{}{query}`{header}", format!("{:?}", row.verb).to_uppercase())
}

fn operation(row: &Row) -> String {
    match row.about {
        About::Address => row.operation.to_owned(),
        About::Prefix => format!("{} (in the Prefix)", row.operation),
        About::Body if row.operation == "DeleteObjects" => format!("{} (each key of the body)", row.operation),
        About::Body => format!("{} (the body is read)", row.operation),
    }
}

#[test]
fn the_page_says_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/s3-actions.md");
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == page, "{path} is not what the table says: run with BLESS=1");
}
