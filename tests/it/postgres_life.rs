//! Crashes and ends.
