//! Everybody and everything that policies can tell apart, in finitely many classes.
//!
//! Ids are paths: what is above an id follows from it. So the policies see nothing of a workload or a resource but the deepest entity
//! above it that some policy or entities.json names, and whether it is that one itself. There is a class for each of them, "exactly
//! this" and "below this and below nothing deeper that is named", and one for all that is below nothing that is named.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::analysis::asked::resource;
use crate::identity::SpiffeId;
use crate::mapping::{Resource, ResourceKind};
use crate::policy::{Spot, Survey};

/// Workloads that no policy tells apart but by their attributes.
#[derive(Debug)]
pub(in crate::analysis) struct PrincipalClass {
    /// One of them.
    pub(in crate::analysis) id: SpiffeId,
    /// The attributes, if it is the only one.
    pub(in crate::analysis) attributes: Option<BTreeMap<&'static str, String>>,
    /// Else the ID that all are below; none for those below a trust domain and for everybody else.
    pub(in crate::analysis) below: Option<String>,
    /// The trust domain of all of them.
    pub(in crate::analysis) trust_domain: Option<String>,
    pub(in crate::analysis) old: Spot,
    pub(in crate::analysis) new: Spot,
}

impl ResourceClass {
    pub(in crate::analysis) fn of(resource: Resource, sides: Sides<'_>) -> Self {
        let (old, new) = (sides.old.resource(&resource), sides.new.resource(&resource));
        Self { resource, old, new }
    }
}

impl PrincipalClass {
    /// What all of them have in common, as Cedar's expressions.
    pub(in crate::analysis) fn assumptions(&self) -> Vec<String> {
        let mut assumptions = vec![
            // How these attributes come from the path.
            "if principal has namespace then principal has serviceAccount && principal.path like \"/ns/*/sa/*\" else !(principal has serviceAccount)".to_owned(),
            "principal.spiffeId like \"spiffe://*/*\" && principal.path like \"/*\"".to_owned(),
        ];
        if let Some(domain) = &self.trust_domain {
            assumptions.push(format!("principal.trustDomain == \"{domain}\""));
            let above = self.below.clone().unwrap_or_else(|| format!("spiffe://{domain}"));
            let path = above.strip_prefix(&format!("spiffe://{domain}")).unwrap_or_default();
            assumptions.push(format!("principal.spiffeId like \"{above}/*\" && principal.path like \"{path}/*\""));
        }
        assumptions
    }

    /// Workloads that might be of this class: the known one, then those with these attributes.
    pub(in crate::analysis) fn candidates(&self, said: &BTreeMap<String, String>) -> Vec<SpiffeId> {
        let mut ids = vec![self.id.clone()];
        if self.attributes.is_some() {
            return ids;
        }
        let own = self.trust_domain.as_deref();
        let domains =
            own.into_iter().chain(said.get("trustDomain").map(String::as_str)).chain([self.id.trust_domain()]);
        let domains: BTreeSet<&str> = domains.collect();
        let account = said.get("serviceAccount").map_or("x", String::as_str);
        let by_namespace = said.get("namespace").map(|namespace| format!("/ns/{namespace}/sa/{account}"));
        for path in by_namespace.iter().chain(said.get("path")) {
            ids.extend(domains.iter().filter_map(|domain| SpiffeId::parse(&format!("spiffe://{domain}{path}")).ok()));
        }
        ids.extend(said.get("spiffeId").and_then(|id| SpiffeId::parse(id).ok()));
        ids.retain(SpiffeId::is_workload);
        ids
    }
}

/// Resources that no policy tells apart.
#[derive(Debug)]
pub(in crate::analysis) struct ResourceClass {
    /// One of them.
    pub(in crate::analysis) resource: Resource,
    pub(in crate::analysis) old: Spot,
    pub(in crate::analysis) new: Spot,
}

/// Both sides of a comparison.
#[derive(Debug, Clone, Copy)]
pub(in crate::analysis) struct Sides<'a> {
    pub(in crate::analysis) old: &'a Survey<'a>,
    pub(in crate::analysis) new: &'a Survey<'a>,
}

/// All entities that either side names.
#[derive(Debug)]
pub(in crate::analysis) struct Named(BTreeSet<(String, String)>);

impl Named {
    pub(in crate::analysis) fn of(sides: Sides<'_>) -> Self {
        let own = |(kind, id): (String, &str)| (kind, id.to_owned());
        Self(sides.old.named().map(own).chain(sides.new.named().map(own)).collect())
    }

    pub(in crate::analysis) fn has(&self, kind: &str, id: &str) -> bool {
        self.0.contains(&(kind.to_owned(), id.to_owned()))
    }

    /// The first of `x`, `x1`, `x2` … of which `make` makes something that is not named, nor is anything above it but `above`.
    fn fresh<T>(&self, above: usize, make: impl Fn(&str) -> Option<(T, Vec<(String, String)>)>) -> Option<T> {
        let mut names = std::iter::once("x".to_owned()).chain((1..1000).map(|number| format!("x{number}")));
        names.find_map(|name| {
            let (made, ids) = make(&name)?;
            let is_fresh = |(kind, id): &(String, String)| id.len() <= above || !self.has(kind, id);
            ids.iter().all(is_fresh).then_some(made)
        })
    }

    /// The classes of workloads: those that are named first, nobody in particular last.
    pub(in crate::analysis) fn principals(&self, sides: Sides<'_>) -> Vec<PrincipalClass> {
        let mut classes = Vec::new();
        let class = |id: SpiffeId| {
            let (old, new) = (sides.old.principal(&id), sides.new.principal(&id));
            PrincipalClass { id, attributes: None, below: None, trust_domain: None, old, new }
        };
        let ids: Vec<&str> = self.0.iter().filter(|(kind, _)| kind == "Workload").map(|(_, id)| id.as_str()).collect();
        for id in ids.iter().filter_map(|id| SpiffeId::parse(id).ok()).filter(SpiffeId::is_workload) {
            let attributes = Some(attributes(&id));
            classes.push(PrincipalClass { attributes, ..class(id) });
        }
        for above in ids {
            let Some(id) = self.workload_below(above) else { continue };
            let trust_domain = Some(id.trust_domain().to_owned());
            classes.push(PrincipalClass { below: Some(above.to_owned()), trust_domain, ..class(id) });
        }
        for (_, domain) in self.0.iter().filter(|(kind, _)| kind == "TrustDomain") {
            let Some(id) = self.workload_below(&format!("spiffe://{domain}")) else { continue };
            classes.push(PrincipalClass { trust_domain: Some(domain.clone()), ..class(id) });
        }
        let elsewhere = self.fresh(0, |name| {
            let domain = format!("{name}.elsewhere.example");
            let id = SpiffeId::parse(&format!("spiffe://{domain}/{name}")).ok()?;
            Some((id, vec![("TrustDomain".to_owned(), domain)]))
        });
        classes.extend(elsewhere.map(class));
        let mut seen = HashSet::new();
        // Nobody can tell a lone workload from another that has its keys, but its attributes can.
        classes.retain(|class| seen.insert((class.id.clone(), class.attributes.is_some())));
        classes
    }

    fn workload_below(&self, above: &str) -> Option<SpiffeId> {
        self.fresh(above.len(), |name| {
            let id = SpiffeId::parse(&format!("{above}/{name}")).ok()?;
            let ids = vec![("Workload".to_owned(), id.as_str().to_owned())];
            Some((id, ids))
        })
    }

    /// The classes of resources of one kind: those that are named first.
    pub(in crate::analysis) fn resources(&self, sides: Sides<'_>, kind: ResourceKind) -> Vec<Arc<ResourceClass>> {
        let mut found = Vec::new();
        let exact = self.0.iter().filter(|(of, _)| of == kind.as_str());
        found.extend(exact.filter_map(|(_, id)| named_resource(kind, id)));
        for (of, id) in &self.0 {
            found.extend(self.fresh(id.len(), |name| {
                let below = below(of, id, kind, name)?;
                Some((named_resource(kind, &below)?, ids_of(kind, &below)))
            }));
        }
        found.extend(self.fresh(0, |name| {
            let endpoint = format!("{name}-elsewhere");
            let id = match kind {
                ResourceKind::Endpoint => endpoint,
                _ => below("Endpoint", &endpoint, kind, name)?,
            };
            Some((named_resource(kind, &id)?, ids_of(kind, &id)))
        }));
        let class = |resource: Resource| ResourceClass::of(resource, sides);
        let mut classes: Vec<ResourceClass> = found.into_iter().map(class).collect();
        let mut seen = HashSet::new();
        let same: Vec<bool> = classes.iter().map(|class| seen.insert((class.old.keys(), class.new.keys()))).collect();
        let mut same = same.into_iter();
        classes.retain(|_| same.next().unwrap_or(true));
        classes.into_iter().map(Arc::new).collect()
    }
}

fn ids_of(kind: ResourceKind, id: &str) -> Vec<(String, String)> {
    let Some(resource) = named_resource(kind, id) else { return Vec::new() };
    let above = resource.ancestors().map(|(kind, id)| (kind.as_str().to_owned(), id.to_owned()));
    above.chain([(kind.as_str().to_owned(), id.to_owned())]).collect()
}

/// The resource of this id.
pub(in crate::analysis) fn named_resource(kind: ResourceKind, id: &str) -> Option<Resource> {
    resource(&format!("{}::\"{}\"", kind.as_str(), id.replace('\\', "\\\\"))).ok()
}

/// The id of a resource of `kind` below an entity, if there are such.
fn below(of: &str, id: &str, kind: ResourceKind, name: &str) -> Option<String> {
    use ResourceKind as K;
    Some(match (of, kind) {
        ("Endpoint", K::HttpPath | K::Bucket | K::Database) => format!("{id}/{name}"),
        ("Endpoint", K::Prefix | K::Object) => format!("{id}/{name}/{name}"),
        ("Endpoint", K::Schema) => format!("{id}/{name}.{name}"),
        ("Endpoint", K::Table | K::Function) => format!("{id}/{name}.{name}.{name}"),
        ("HttpPath", K::HttpPath) | ("Bucket" | "Prefix", K::Prefix | K::Object) => format!("{id}/{name}"),
        ("Database", K::Schema) | ("Schema", K::Table | K::Function) => format!("{id}.{name}"),
        ("Database", K::Table | K::Function) => format!("{id}.{name}.{name}"),
        _ => return None,
    })
}

fn attributes(id: &SpiffeId) -> BTreeMap<&'static str, String> {
    let mut attributes = BTreeMap::from([
        ("spiffeId", id.as_str().to_owned()),
        ("trustDomain", id.trust_domain().to_owned()),
        ("path", id.path().to_owned()),
    ]);
    let segments: Vec<&str> = id.path().split('/').skip(1).collect();
    if let ["ns", namespace, "sa", account] = segments.as_slice() {
        attributes.insert("namespace", (*namespace).to_owned());
        attributes.insert("serviceAccount", (*account).to_owned());
    }
    attributes
}
