//! When a connection has to end though its peer would go on.

use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;

use crate::drain::DrainWatch;
use crate::identity::{SpiffeId, X509Source};
use crate::tls::StayOver;

/// Why a connection has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The process drains.
    Drain,
    /// It is as old as it may become.
    Aged,
    /// The peer has no right to be here any more.
    Over(StayOver),
}

impl Ending {
    /// As records name it.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Drain => "drain-timeout",
            Self::Aged => "connection-age",
            Self::Over(over) => over.rule,
        }
    }
}

/// Ready when our own workload is not the one any more that it was when it connected: by that one's ID it is judged.
pub(super) async fn of_own(source: &dyn X509Source, id: &SpiffeId) -> StayOver {
    let mut changed = source.changed();
    loop {
        let over = |rule, message| StayOver { rule, message, ahead: Duration::ZERO };
        match source.current() {
            None => return over("no-own-svid", format!("`{id}` was withdrawn from us")),
            Some(own) if own.svid.id() != id => {
                return over("own-id-changed", format!("we were `{id}`, and are `{}` by now", own.svid.id()));
            }
            Some(_) if changed.changed().await.is_err() => pending().await,
            Some(_) => {}
        }
    }
}

/// Ready when the process drains, the right to be here is `over`, or the connection is as old as it may become.
pub(super) async fn of(drain: &DrainWatch, over: impl Future<Output = StayOver>, age: Option<Duration>) -> Ending {
    let aged = async {
        match age {
            Some(age) => sleep(shortened(age)).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = drain.draining() => Ending::Drain,
        over = over => Ending::Over(over),
        () = aged => Ending::Aged,
    }
}

/// Up to a tenth less: connections that began together must not come back together.
fn shortened(age: Duration) -> Duration {
    age.mul_f64(1.0 - fastrand::f64() / 10.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::drain;
    use crate::identity::dev_ca::DevCa;
    use crate::identity::{Brought, Clock, Denied, IdentityStore, Own, Part, TrustBundle, TrustDomain};

    /// Gives `store` the identity of this workload.
    fn become_workload(store: &IdentityStore, ca: &DevCa, id: &SpiffeId) {
        let minted = ca.issue(id, Duration::from_secs(60)).unwrap();
        let own = Some(Own { chain: minted.chain.clone(), key: minted.key().unwrap() });
        let trust_domain = TrustDomain::parse("prod.test").unwrap();
        let bundle = TrustBundle::from_file_content(trust_domain, ca.certificate_pem().as_bytes()).unwrap();
        let brought = Brought { own, bundles: vec![bundle], ..Brought::default() };
        store.bring(Part::WorkloadApi, brought).unwrap();
    }

    #[tokio::test]
    async fn our_own_workload_is_here_for_as_long_as_it_is_who_it_was() {
        let ca = DevCa::new(&TrustDomain::parse("prod.test").unwrap(), Duration::from_secs(3600)).unwrap();
        let [app, other] = ["app", "other"].map(|name| SpiffeId::parse(&format!("spiffe://prod.test/{name}")).unwrap());
        let store = Arc::new(IdentityStore::new(Denied::default(), Clock::system()));
        become_workload(&store, &ca, &app);
        let watching =
            |store: Arc<IdentityStore>, id: SpiffeId| tokio::spawn(async move { of_own(&*store, &id).await });
        let stays = watching(Arc::clone(&store), app.clone());
        tokio::task::yield_now().await;
        become_workload(&store, &ca, &app);
        tokio::task::yield_now().await;
        assert!(!stays.is_finished(), "a rotation makes nobody else of it");
        become_workload(&store, &ca, &other);
        assert_eq!(stays.await.unwrap().rule, "own-id-changed");
        let withdrawn = watching(Arc::clone(&store), other);
        tokio::task::yield_now().await;
        store.withdraw(&Part::WorkloadApi);
        assert_eq!(withdrawn.await.unwrap().rule, "no-own-svid");
    }

    #[test]
    fn ages_differ_and_none_is_longer_than_it_may_be() {
        let age = Duration::from_secs(1_000);
        let ages: Vec<Duration> = (0..100).map(|_| shortened(age)).collect();
        assert!(ages.iter().all(|one| (Duration::from_secs(900)..=age).contains(one)), "{ages:?}");
        assert!(ages.iter().any(|one| *one < Duration::from_secs(950)), "{ages:?}");
        assert!(ages.iter().any(|one| *one > Duration::from_secs(950)), "{ages:?}");
    }

    #[tokio::test]
    async fn what_comes_first_ends_a_connection() {
        let (trigger, watch) = drain::channel();
        assert_eq!(of(&watch, pending(), Some(Duration::from_millis(1))).await, Ending::Aged);
        trigger.announce();
        assert_eq!(of(&watch, pending(), None).await, Ending::Drain);
    }
}
