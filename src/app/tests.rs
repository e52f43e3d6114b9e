use std::sync::mpsc;
use std::time::Duration;

use super::*;

#[test]
fn what_blocks_beside_the_data_path_has_a_bounded_number_of_threads() {
    // Before the channels: dropping it waits for those that wait for them.
    let runtime = control_runtime().unwrap();
    let (begun, beginnings) = mpsc::channel();
    let (end, ends) = mpsc::channel::<()>();
    let ends = Arc::new(Mutex::new(ends));
    for _ in 0..=MOST_BLOCKING {
        let (begun, ends) = (begun.clone(), Arc::clone(&ends));
        runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            let _ended = ends.lock().unwrap_or_else(PoisonError::into_inner).recv();
        });
    }
    for number in 1..=MOST_BLOCKING {
        beginnings.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{number} do not begin"));
    }
    assert!(beginnings.recv_timeout(Duration::from_millis(100)).is_err(), "one more than there are threads for");
    end.send(()).unwrap();
    beginnings.recv_timeout(Duration::from_secs(30)).expect("its turn comes");
}
