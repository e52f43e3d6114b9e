//! A case's question becomes what a listener would ask: requests go through the mappers themselves.

mod ids;
mod values;

use std::time::{SystemTime, UNIX_EPOCH};

use http::Request;
use http::request::Parts;
use serde_json::Value as Json;

pub(super) use self::ids::{quoted_name, resource, sql_names};
use self::values::{FACTS, OWN, context, with_what_is_always_there};
use super::question::{Question, Texts};
use crate::config::{Direction, HttpConfig, Limits, ListenerConfig, ProtocolConfig, S3Config, nearest};
use crate::mapping::head::{HeadRules, judge};
use crate::mapping::s3::{self, Asked};
use crate::mapping::{Action, Context, HeadersRead, Operation, Operations, Resource, Value, http as http_mapping, sql};

/// What a case asks, or the refusal that its request meets.
#[derive(Debug)]
pub(super) struct AskedOf {
    pub(super) facts: Context,
    pub(super) operations: Result<Operations, String>,
}

impl Question {
    /// # Errors
    /// The case is not written as one.
    pub(super) fn asked(&self, reads: HeadersRead<'_>) -> Result<AskedOf, String> {
        let mut facts = context(&self.context, &FACTS)?;
        if facts.get("now").is_none() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
            facts.set("now", Value::Datetime(i64::try_from(now).unwrap_or(i64::MAX)));
        }
        if facts.get("direction").is_none() {
            facts.set("direction", "inbound");
        }
        let own = context(&self.context, &OWN)?;
        if let Some(unknown) =
            self.context.keys().find(|key| !FACTS.contains(&key.as_str()) && !OWN.contains(&key.as_str()))
        {
            let meant = nearest(unknown, FACTS.into_iter().chain(OWN))
                .map(|name| format!(", did you mean `{name}`?"))
                .unwrap_or_default();
            return Err(format!("`context` has no attribute `{unknown}`{meant}"));
        }
        if (self.request.is_some() || self.sql.is_some()) && own.iter().next().is_some() {
            return Err(format!(
                "with `request` or `sql` the context comes from what is asked: `context` may have {}",
                FACTS.join(", ")
            ));
        }
        if let Some(sql) = &self.sql {
            return Ok(AskedOf { facts, operations: sql.operations()? });
        }
        let operations = match (&self.request, &self.action, &self.resource) {
            (Some(request), ..) => self.map(request, reads)?,
            (None, Some(name), Some(id)) => {
                let context = with_what_is_always_there(name, own);
                Ok(Operations::one(Operation { action: action(name)?, resource: self.placed(id)?, context }))
            }
            _ => return Err("what is asked? `request`, `sql`, or `action` and `resource`".to_owned()),
        };
        Ok(AskedOf { facts, operations })
    }

    /// The resource of that id, with the tables that it is a partition of.
    pub(super) fn placed(&self, id: &str) -> Result<Resource, String> {
        let wholes = self.partition_of.iter().map(|whole| resource(whole));
        Ok(resource(id)?.partition_of(wholes.collect::<Result<Vec<_>, _>>()?))
    }

    /// `GET s3://ENDPOINT/BUCKET/KEY?QUERY` or `POST http://ENDPOINT/PATH`.
    fn map(&self, request: &str, reads: HeadersRead<'_>) -> Result<Result<Operations, String>, String> {
        let (method, url) =
            request.split_once(' ').ok_or("`request` is `METHOD s3://ENDPOINT/…` or `METHOD http://ENDPOINT/…`")?;
        let (scheme, rest) = url.split_once("://").ok_or("`request` has no `s3://` or `http://`")?;
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (endpoint, target) = rest.split_at_checked(at).unwrap_or((rest, ""));
        if !self.endpoints.is_empty() && self.endpoints.get(endpoint).map(String::as_str) != Some(scheme) {
            return Err(format!("`endpoints` has no `{endpoint}: {scheme}`"));
        }
        let listener = self.listener(endpoint, scheme)?;
        let limits = listener.map_or_else(Limits::default, |listener| listener.limits.clone());
        let hosts = match listener.map(|listener| &listener.protocol) {
            Some(ProtocolConfig::Http(http)) => http.hosts.as_slice(),
            _ => &[],
        };
        let host = hosts.first().map_or("localhost", String::as_str);
        let parts = self.parts(method, if target.is_empty() { "/" } else { target }, host)?;
        let refused = |refusal: crate::mapping::Refusal| format!("{}: {}", refusal.rule, refusal.message);
        match scheme {
            "s3" => {
                let config = match listener.map(|listener| &listener.protocol) {
                    Some(ProtocolConfig::S3(config)) => config.clone(),
                    _ => S3Config::default(),
                };
                let head = match judge(&parts, &HeadRules::s3(&limits)) {
                    Ok(head) => head,
                    Err(refusal) => return Ok(Err(refused(refusal))),
                };
                match s3::map(&head, endpoint, &config, reads).map(|call| call.asked) {
                    Ok(Asked::Operations(operations)) => Ok(Ok(operations)),
                    Ok(Asked::DeleteObjects(delete)) => {
                        let body = self.body.as_deref().ok_or("DeleteObjects needs a `body`")?;
                        Ok(delete.parse(body.as_bytes()).map(|delete| delete.operations()).map_err(refused))
                    }
                    Ok(Asked::RestoreObject(restore)) => {
                        Ok(restore.judge(self.body.as_deref().unwrap_or_default().as_bytes()).map_err(refused))
                    }
                    Err(refusal) => Ok(Err(refused(refusal))),
                }
            }
            "http" => {
                let config = match listener.map(|listener| &listener.protocol) {
                    Some(ProtocolConfig::Http(config)) => config.clone(),
                    _ => HttpConfig::default(),
                };
                Ok(judge(&parts, &HeadRules::http(&config, &limits))
                    .and_then(|head| http_mapping::map(&head, endpoint, &config, reads).map(|call| call.operations))
                    .map_err(refused))
            }
            other => Err(format!("`request` has `{other}://`, it is `s3://` or `http://`")),
        }
    }

    /// The listener of that name, inbound before outbound; none if nothing is known of any.
    fn listener(&self, endpoint: &str, scheme: &str) -> Result<Option<&ListenerConfig>, String> {
        if self.listeners.is_empty() {
            return Ok(None);
        }
        let wanted = match self.context.get("direction").and_then(Json::as_str) {
            Some("outbound") => Direction::Outbound,
            _ => Direction::Inbound,
        };
        let named = || self.listeners.iter().filter(|listener| *listener.name == *endpoint);
        let found = named().find(|listener| listener.direction == wanted).or_else(|| named().next());
        let Some(found) = found else {
            let names = self.listeners.iter().map(|listener| &*listener.name);
            let meant = nearest(endpoint, names).map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
            return Err(format!("the configuration has no listener `{endpoint}`{meant}"));
        };
        let speaks = found.protocol.as_str();
        if speaks == scheme {
            Ok(Some(found))
        } else {
            Err(format!("the listener `{endpoint}` has `protocol: {speaks}`, not {scheme}"))
        }
    }

    fn parts(&self, method: &str, target: &str, host: &str) -> Result<Parts, String> {
        let mut builder = Request::builder().method(method).uri(target);
        let says = |header: &str| self.headers.keys().any(|name| name.eq_ignore_ascii_case(header));
        if let (Some(body), false) = (&self.body, says("content-length") || says("transfer-encoding")) {
            builder = builder.header("content-length", body.len());
        }
        if !says("host") {
            builder = builder.header("host", host);
        }
        for (name, values) in &self.headers {
            let values = match values {
                Texts::One(value) => std::slice::from_ref(value),
                Texts::Several(values) => values,
            };
            for value in values {
                builder = builder.header(name, value);
            }
        }
        Ok(builder.body(()).map_err(|cause| format!("`request`: {cause}"))?.into_parts().0)
    }
}

fn action(name: &str) -> Result<Action, String> {
    if let Some(method) = name.strip_prefix("http:").filter(|method| *method != "Upgrade") {
        return Ok(Action::http(method));
    }
    let known = || {
        s3::actions()
            .map(|(name, _)| name)
            .chain(sql::actions().map(|(name, _)| name))
            .chain(["http:Upgrade", "tcp:Connect"])
    };
    known().find(|known| *known == name).map(Action::named).ok_or_else(|| {
        let meant = nearest(name, known()).map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
        format!("there is no action `{name}`{meant}")
    })
}
