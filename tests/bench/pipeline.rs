//! The policies and questions of a pipeline of any size.

use std::fmt::Write as _;
use std::fs;

use portcullis::identity::SpiffeId;
use portcullis::mapping::{Action, Context, Operation, Resource, Value};
use portcullis::policy::PolicySource;
use tempfile::TempDir;

/// Policies of each stage, but for the first ones of a small set.
const PER_STAGE: usize = 20;

/// What no stage may, whatever it is permitted.
const FORBIDS: [&str; 4] = [
    r#"@id("forbid-plaintext")
forbid (principal, action in [Action::"write"], resource in Endpoint::"lake")
unless { context has encryption && context.encryption == "aws:kms" };"#,
    r#"@id("forbid-public-acl")
forbid (principal, action in [Action::"s3:PutObject", Action::"s3:PutObjectAcl"], resource)
when { context has acl && ["public-read", "public-read-write"].contains(context.acl) };"#,
    r#"@id("forbid-restricted")
forbid (principal, action, resource in Group::"restricted")
unless { principal in Group::"cleared" };"#,
    r#"@id("forbid-old-tls")
forbid (principal, action, resource)
when { context.direction == "inbound" && context has tls.version && context.tls.version != "TLSv1.3" };"#,
];

/// A set of policies with its entities.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// Texts by file.
    pub(crate) files: Vec<String>,
    pub(crate) stages: usize,
}

/// A pipeline's directory.
#[derive(Debug)]
pub(crate) struct Written(TempDir);

impl Written {
    pub(crate) fn source(&self) -> PolicySource {
        PolicySource::of(self.0.path())
    }
}

pub(crate) fn workload(stage: usize) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://pipeline.example/ns/etl/sa/s{stage}")).expect("a SPIFFE ID")
}

/// One of many workloads of the first stage.
pub(crate) fn replica(n: usize) -> SpiffeId {
    SpiffeId::parse(&format!("{}/{n}", workload(0))).expect("a SPIFFE ID")
}

impl Pipeline {
    /// Of so many policies.
    pub(crate) fn with(policies: usize) -> Self {
        let mut files = vec![FORBIDS.join("\n\n")];
        let mut left = policies - FORBIDS.len();
        let mut stages = 0;
        while left > 0 {
            let mut text = String::new();
            for n in 0..PER_STAGE.min(left) {
                writeln!(text, "{}\n", permit(stages, n)).expect("a string");
            }
            files.push(text);
            left = left.saturating_sub(PER_STAGE);
            stages += 1;
        }
        Self { files, stages }
    }

    /// The same as a directory.
    pub(crate) fn written(&self) -> Written {
        let folder = tempfile::tempdir().expect("a folder");
        for (n, text) in self.files.iter().enumerate() {
            fs::write(folder.path().join(format!("{n:04}.cedar")), text).expect("written");
        }
        fs::write(folder.path().join("entities.json"), self.entities()).expect("written");
        Written(folder)
    }

    /// entities.json.
    fn entities(&self) -> String {
        let mut json = String::from("[");
        for stage in 0..self.stages {
            let id = workload(stage);
            write!(
                json,
                r#"{{"uid":{{"type":"Workload","id":"{id}"}},"parents":[{{"type":"Stage","id":"s{stage}"}}],"tags":{{"team":["t{}"]}}}},"#,
                stage % 7
            )
            .expect("a string");
        }
        json + r#"{"uid":{"type":"Bucket","id":"lake/restricted"},"parents":[{"type":"Group","id":"restricted"}]}]"#
    }
}

fn permit(stage: usize, n: usize) -> String {
    let scope = match n {
        0 => format!(r#"action in [Action::"read", Action::"write"], resource in Prefix::"lake/raw/s{stage}""#),
        1 => format!(r#"action in [Action::"read"], resource in HttpPath::"api/s{stage}""#),
        2 => format!(r#"action in [Action::"read"], resource in Schema::"warehouse/analytics.s{stage}""#),
        3 => r#"action == Action::"sql:Connect", resource == Database::"warehouse/analytics""#.to_owned(),
        4 => format!(r#"action in [Action::"list"], resource in Bucket::"lake/b{stage}""#),
        _ => match n % 4 {
            0 => format!(r#"action in [Action::"read"], resource in Bucket::"lake/b{stage}-{n}""#),
            1 => format!(r#"action in [Action::"write"], resource in Prefix::"lake/curated/s{stage}/{n}""#),
            2 => {
                format!(r#"action == Action::"sql:Insert", resource == Table::"warehouse/analytics.out.s{stage}_{n}""#)
            }
            _ => format!(r#"action == Action::"http:POST", resource in HttpPath::"api/v{n}/s{stage}""#),
        },
    };
    let condition = match n {
        0 => r#" when { context.direction == "inbound" }"#,
        2 => r#" unless { context.columns.containsAny(["ssn", "iban"]) }"#,
        _ if n % 5 == 4 => r#" when { principal.hasTag("team") && principal.getTag("team").contains("t0") }"#,
        _ => "",
    };
    format!("@id(\"s{stage}-{n}\")\npermit (principal in Stage::\"s{stage}\", {scope}){condition};")
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Question {
    Get,
    Put,
    Http,
    Sql,
}

/// A question of the first stage.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    pub(crate) facts: Context,
}

impl Question {
    pub(crate) const KINDS: [Self; 4] = [Self::Get, Self::Put, Self::Http, Self::Sql];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "s3-get",
            Self::Put => "s3-put",
            Self::Http => "http-get",
            Self::Sql => "sql-select",
        }
    }

    /// The `n`th of its kind. All are allowed, by the same policies, and no two have the same resource or the same address.
    pub(crate) fn asked(self, n: usize) -> Asked {
        let mut context = Context::default();
        let object = || Resource::object("lake", "raw", &format!("s0/2026/11/22/part-{n:06}.parquet"));
        let (action, resource) = match self {
            Self::Get => ("s3:GetObject", object()),
            Self::Put => ("s3:PutObject", object()),
            Self::Http => ("http:GET", Resource::http_path("api", &format!("/s0/orders/{n}/lines"))),
            Self::Sql => ("sql:Select", Resource::table("warehouse", "analytics", "s0", &format!("orders_{n}"))),
        };
        match self {
            Self::Get | Self::Put => {
                context.set("host", "lake.internal");
                context.set("headers", Value::Headers(Vec::new()));
                context.set("operation", if matches!(self, Self::Get) { "GetObject" } else { "PutObject" });
                if matches!(self, Self::Put) {
                    context.set("encryption", "aws:kms");
                    context.set("contentLength", 1_048_576);
                }
                context.set("byVersion", false);
                context.set("presigned", false);
            }
            Self::Http => {
                context.set("host", "api.internal");
                context.set("headers", Value::Headers(Vec::new()));
            }
            Self::Sql => {
                context.set("columns", Value::Strings(["id", "placed_at", "total"].map(Into::into).into()));
                context.set("statement", "select");
                context.set("role", "reader");
            }
        }
        let mut facts = Context::default();
        let now = 1_795_348_800_000 + i64::try_from(n).expect("a small number");
        facts.set("now", Value::Datetime(now));
        facts.set("direction", "inbound");
        facts.set("sourceIp", Value::Ip([10, 1, 2, 3].into()));
        let tls = vec![("version", "TLSv1.3".into()), ("certificateExpiry", Value::Datetime(1_795_352_400_000))];
        facts.set("tls", Value::Record(tls));
        Asked { operation: Operation { action: Action::named(action), resource, context }, facts }
    }
}
