//! Raw bytes against the guard, alone and in front of hyper.
