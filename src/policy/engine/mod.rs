//! Policies compiled for speed, and the questions put to them.
//!
//! A question only touches policies whose scope can match it: they are found by interned ids of the action, the principal and the
//! resource and of everything these are in (`index.rs`). Policies that are nothing but scope are decided by that alone. Of the others
//! Cedar's own authorizer evaluates the conditions (`conditions.rs`), over a store of the few entities that they can see (`question.rs`).
//! What was decided is remembered, and recalled for a question that is the same in all that its candidates read (`memory/`).
//! A property test holds the shortcut to Cedar's answer on the whole set (`equivalence.rs`).

mod builder;
mod compiled;
mod conditions;
mod decide;
#[cfg(test)]
mod equivalence;
mod given;
mod index;
mod located;
mod memory;
mod names;
mod principal;
mod question;
mod survey;
mod whole;

pub(super) use builder::Compilable;
pub(super) use compiled::Engine;
pub use given::Given;
pub use principal::Principal;
pub use survey::Spot;
pub(super) use whole::AskedOfAll;
