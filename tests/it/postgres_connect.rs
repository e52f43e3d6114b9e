//! Before the first statement.
