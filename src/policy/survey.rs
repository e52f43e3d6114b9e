//! Policies in force laid open, to be compared with others.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::{Policy, PolicyId};
use serde_json::{Value as Json, json};

use super::engine::Spot;
use super::generation::PolicyGeneration;
use crate::identity::SpiffeId;
use crate::mapping::{Resource, ResourceKind};

/// A generation as those see it who compare it with another.
#[derive(Debug)]
pub struct Survey<'a> {
    generation: &'a PolicyGeneration,
    policies: Vec<Surveyed>,
}

/// A policy that is enforced.
#[derive(Debug)]
pub struct Surveyed {
    /// Its `@id`.
    pub id: Arc<str>,
    /// It permits; else it forbids.
    pub permits: bool,
    /// Its conditions in Cedar's JSON form: `{"kind": "when", "body": …}`.
    pub conditions: Vec<Json>,
    /// Whether its conditions, beside its scope, ask something of the resource.
    pub speaks_of_resource: bool,
    /// Whether its scope names no principal and no resource.
    pub is_open: bool,
    /// Scope, effect and conditions: the same for policies that do the same for the same reasons.
    pub sense: Arc<str>,
}

/// An action that can be asked.
#[derive(Debug)]
pub struct SurveyedAction {
    /// `s3:GetObject`
    pub name: String,
    /// What it can be asked about.
    pub kinds: Vec<ResourceKind>,
    /// The same for actions whose context has one form.
    pub form: usize,
    /// As the policies see it.
    pub spot: Spot,
}

impl PolicyGeneration {
    /// Lays the enforced policies open.
    ///
    /// # Errors
    /// A policy cannot be had in Cedar's JSON form.
    pub fn survey(&self) -> Result<Survey<'_>, String> {
        let by_id: BTreeMap<&str, &str> = self.policies().iter().map(|policy| (&*policy.id, &*policy.text)).collect();
        let policies = self.engine().ids().iter().map(|id| {
            let text = by_id.get(&**id).ok_or_else(|| format!("policy `{id}` has no text"))?;
            Surveyed::of(id, text)
        });
        Ok(Survey { generation: self, policies: policies.collect::<Result<_, String>>()? })
    }
}

impl Surveyed {
    fn of(id: &Arc<str>, text: &str) -> Result<Self, String> {
        let policy = Policy::parse(Some(PolicyId::new(id)), text).map_err(|cause| cause.to_string())?;
        let mut tree = policy.to_json().map_err(|cause| cause.to_string())?;
        if let Some(tree) = tree.as_object_mut() {
            tree.remove("annotations");
        }
        let conditions = tree.get("conditions").and_then(Json::as_array).cloned().unwrap_or_default();
        let permits = tree.get("effect") == Some(&json!("permit"));
        let speaks_of_resource = json!(conditions).to_string().contains("{\"Var\":\"resource\"}");
        let names_none =
            |part: &str| tree.get(part).is_none_or(|scope| scope.get("entity").or(scope.get("in")).is_none());
        let is_open = names_none("principal") && names_none("resource");
        Ok(Self {
            id: Arc::clone(id),
            permits,
            is_open,
            conditions,
            speaks_of_resource,
            sense: tree.to_string().into(),
        })
    }
}

impl Survey<'_> {
    /// The generation itself.
    #[must_use]
    pub const fn generation(&self) -> &PolicyGeneration {
        self.generation
    }

    /// The enforced policies.
    #[must_use]
    pub fn policies(&self) -> &[Surveyed] {
        &self.policies
    }

    /// Type and id of every entity that a policy or entities.json names.
    pub fn named(&self) -> impl Iterator<Item = (String, &str)> {
        self.generation.engine().named()
    }

    /// Whether both know the same of the entities.
    #[must_use]
    pub fn knows_the_same(&self, other: &Survey<'_>) -> bool {
        self.generation.engine().said() == other.generation.engine().said()
    }

    /// All actions, by name.
    #[must_use]
    pub fn actions(&self) -> Vec<SurveyedAction> {
        let actions = self.generation.engine().surveyed_actions().into_iter();
        actions.map(|(name, kinds, form, spot)| SurveyedAction { name, kinds, form, spot }).collect()
    }

    /// A workload as the policies see it.
    #[must_use]
    pub fn principal(&self, id: &SpiffeId) -> Spot {
        self.generation.engine().principal_spot(id)
    }

    /// A resource as the policies see it.
    #[must_use]
    pub fn resource(&self, resource: &Resource) -> Spot {
        self.generation.engine().resource_spot(resource)
    }

    /// `== KIND::"ID"`
    #[must_use]
    pub fn is(&self, spot: &Spot, kind: &str, id: &str) -> bool {
        self.generation.engine().holds(spot, kind, id, true)
    }

    /// `in KIND::"ID"`
    #[must_use]
    pub fn is_in(&self, spot: &Spot, kind: &str, id: &str) -> bool {
        self.generation.engine().holds(spot, kind, id, false)
    }

    /// `KIND::"ID" in` what is there.
    #[must_use]
    pub fn holds(&self, spot: &Spot, kind: &str, id: &str) -> bool {
        self.generation.engine().is_held_by(spot, kind, id)
    }

    /// The policies whose scope matches.
    #[must_use]
    pub fn matching(&self, action: &Spot, principal: &Spot, resource: &Spot, kind: ResourceKind) -> Vec<&Surveyed> {
        self.of(self.generation.engine().matching(action, principal, Some((resource, kind))))
    }

    /// The policies whose scope matches for some resource.
    #[must_use]
    pub fn matching_some(&self, action: &Spot, principal: &Spot) -> Vec<&Surveyed> {
        self.of(self.generation.engine().matching(action, principal, None))
    }

    fn of(&self, positions: Vec<u32>) -> Vec<&Surveyed> {
        positions.into_iter().filter_map(|position| self.policies.get(position as usize)).collect()
    }
}
