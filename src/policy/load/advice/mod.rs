//! What to write instead. Cedar says what is wrong with a policy and where; what an operator of this proxy most likely meant is said here.
//!
//! Cedar's errors do not show their parts, so they are told by their messages, which a test holds (`docs/policy-mistakes.md`): with
//! another message an error is shown with Cedar's own help.

mod attributes;
mod named;
mod place;
mod syntax;
mod typed;

pub(super) use attributes::{OF_WORKLOADS, never_there};
pub(super) use named::{SHIPPED_TYPES, everybody, no_principal, not_applicable, unknown_action, unknown_type};
pub(super) use syntax::of_syntax;
pub(super) use typed::{in_words, of_type};
pub(super) use typed::{is_of_left, is_said_of_left, never_true};
