//! How many connections a listener and a workload may have at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::identity::SpiffeId;

/// The connections of a listener, over all data-path threads.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    most_each: usize,
    taken: AtomicUsize,
    workloads: Mutex<HashMap<SpiffeId, usize>>,
}

/// One connection's place. Given back when dropped.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

/// One connection's place among those of its workload. Given back when dropped.
#[derive(Debug)]
pub struct WorkloadSlot {
    slots: Arc<Slots>,
    workload: SpiffeId,
}

impl Slots {
    /// Places for `most` connections, `most_each` of one workload.
    #[must_use]
    pub fn new(most: usize, most_each: usize) -> Arc<Self> {
        Arc::new(Self { most, most_each, taken: AtomicUsize::new(0), workloads: Mutex::default() })
    }

    /// A place, if one is free.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let slot = Slot(Arc::clone(self));
        (before < self.most).then_some(slot)
    }

    /// A place for one more connection of `workload`, if it has one free.
    #[must_use]
    pub fn take_for(self: &Arc<Self>, workload: &SpiffeId) -> Option<WorkloadSlot> {
        let mut workloads = self.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        let count = workloads.entry(workload.clone()).or_insert(0);
        if *count >= self.most_each {
            return None;
        }
        *count += 1;
        Some(WorkloadSlot { slots: Arc::clone(self), workload: workload.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for WorkloadSlot {
    fn drop(&mut self) {
        let mut workloads = self.slots.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = workloads.get_mut(&self.workload) {
            *count -= 1;
            if *count == 0 {
                workloads.remove(&self.workload);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_listener_takes_a_connection_again_when_one_ends() {
        let slots = Slots::new(2, 2);
        let first = slots.take().unwrap();
        let _second = slots.take().unwrap();
        assert!(slots.take().is_none());
        drop(first);
        assert!(slots.take().is_some());
    }

    #[test]
    fn one_workload_cannot_take_the_places_of_another() {
        let slots = Slots::new(10, 1);
        let greedy = SpiffeId::parse("spiffe://a.example/greedy").unwrap();
        let modest = SpiffeId::parse("spiffe://a.example/modest").unwrap();
        let held = slots.take_for(&greedy).unwrap();
        assert!(slots.take_for(&greedy).is_none());
        assert!(slots.take_for(&modest).is_some());
        drop(held);
        assert!(slots.take_for(&greedy).is_some());
        assert!(slots.workloads.lock().unwrap().is_empty());
    }
}
