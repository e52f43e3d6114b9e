//! How long a proved peer may stay: until its certificate's time is over, or the bundles in force no longer vouch for it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{HandshakeRefusal, Peer};
use crate::identity::{Clock, X509Source};

/// The wall clock is looked at this often: it may be set while a connection lives.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A whole chain is verified again this often, though nothing was changed: the time of an issuer or of a CRL runs out too.
const VERIFY_EVERY: Duration = Duration::from_secs(300);

/// Who can be asked to go is asked so long before the end, and no longer than a tenth of the stay.
const AHEAD: Duration = Duration::from_secs(5);

/// A peer's stay on one connection.
#[derive(Debug, Clone)]
pub struct Stay {
    peer: Arc<Peer>,
    source: Arc<dyn X509Source>,
    /// Of this connection: it does not go back with the wall clock, or what has to end would live on.
    clock: Clock,
    bound: Bound,
    /// How long the connection may outlive the certificates that it began with.
    outlive: Duration,
    /// How long before its end it is over.
    ahead: Duration,
    trust: watch::Receiver<u64>,
    look_every: Duration,
}

/// The certificate whose time ends a stay.
#[derive(Debug, Clone, Copy)]
struct Bound {
    not_after: SystemTime,
    rule: &'static str,
}

/// Why a peer may not stay.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct StayOver {
    /// As records name it: `peer-expired`, `own-svid-expired`, or the rule of path validation that is broken by now.
    pub rule: &'static str,
    /// The rule and the offending value, for people.
    pub message: String,
    /// How long it could still have stayed: an end that was foreseen is told ahead, so that no request runs into it.
    pub ahead: Duration,
}

impl Stay {
    /// The stay of a peer whose handshake was judged by `source` and `clock`.
    pub(super) fn new(peer: Arc<Peer>, source: Arc<dyn X509Source>, clock: &Clock, outlive: Duration) -> Self {
        let bound = Bound { not_after: peer.svid().not_after(), rule: "peer-expired" };
        let trust = source.changed();
        Self {
            peer,
            source,
            clock: clock.steady(),
            bound,
            outlive,
            ahead: Duration::ZERO,
            trust,
            look_every: LOOK_EVERY,
        }
    }

    /// The same, but over as well when the time of the certificate that we have shown is.
    pub(super) fn or_our_own(mut self) -> Self {
        let not_after = self.peer.own_not_after();
        if not_after < self.bound.not_after {
            self.bound = Bound { not_after, rule: "own-svid-expired" };
        }
        self
    }

    /// The same, but over a little before the certificate's time is.
    #[must_use]
    pub fn told_ahead(mut self) -> Self {
        let left = self.left(self.clock.now()).unwrap_or_default();
        self.ahead = AHEAD.min(left / 10);
        self
    }

    /// The same, but over not before the certificate's time is.
    #[must_use]
    pub const fn to_its_end(mut self) -> Self {
        self.ahead = Duration::ZERO;
        self
    }

    /// Who stays.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Whether a handshake would come to the same now: it would show and judge by the generation that this one did, and let the peer in.
    #[must_use]
    pub fn is_as_begun(&self) -> bool {
        *self.trust.borrow() == self.peer.generation() && self.judged().is_ok()
    }

    /// Judges the peer as a handshake would now: nothing is outlived, and the whole chain is verified.
    ///
    /// # Errors
    /// It would not be let in.
    pub fn judged(&self) -> Result<(), StayOver> {
        let now = self.clock.now();
        let strict = Self { outlive: Duration::ZERO, ahead: Duration::ZERO, ..self.clone() };
        strict.left(now)?;
        strict.verify(now, 0).map(|_generation| ())
    }

    /// Waits until the peer may not stay any longer.
    ///
    /// # Cancel safety
    /// A later call judges anew.
    pub async fn over(&mut self) -> StayOver {
        let mut verified = (self.peer.generation(), Instant::now());
        let mut may_change = true;
        loop {
            let now = self.clock.now();
            let left = match self.left(now) {
                Ok(left) => left,
                Err(over) => return over,
            };
            let in_force = *self.trust.borrow_and_update();
            let is_due = verified.1.elapsed() >= VERIFY_EVERY;
            if in_force != verified.0 || is_due {
                match self.verify(now, if is_due { 0 } else { verified.0 }) {
                    Ok(generation) => verified.0 = generation,
                    Err(over) => return over,
                }
            }
            if is_due {
                verified.1 = Instant::now();
            }
            tokio::select! {
                // A source that is gone changes nothing any more: what remains is the clock.
                changed = self.trust.changed(), if may_change => may_change = changed.is_ok(),
                () = sleep(left.min(self.look_every)) => {}
            }
        }
    }

    /// The time that is left to the certificate, with what it may be outlived by.
    fn left(&self, now: SystemTime) -> Result<Duration, StayOver> {
        let Bound { not_after, rule } = self.bound;
        let Some(until) = not_after.checked_add(self.outlive) else { return Ok(Duration::MAX) };
        let whole = until.duration_since(now).ok();
        let left = whole.and_then(|whole| whole.checked_sub(self.ahead));
        left.ok_or_else(|| {
            let whose = if rule == "peer-expired" { "the peer's certificate" } else { "our own certificate" };
            let when = match now.duration_since(not_after) {
                Ok(since) => format!("expired {} s ago", since.as_secs()),
                Err(_before) => "expires".to_owned(),
            };
            let message = format!("{whose} that the connection began with {when}");
            StayOver { rule, message, ahead: whole.unwrap_or_default() }
        })
    }

    /// Verifies the chain by the generation in force, unless that trusts what generation `known` did. Gives its number.
    fn verify(&self, now: SystemTime, known: u64) -> Result<u64, StayOver> {
        let generation = self.source.current().ok_or_else(HandshakeRefusal::no_own_svid)?;
        // Rotations are frequent and connections many: that costs nothing.
        if generation.trust_since > known {
            // A certificate that may be outlived is judged as of its last moment.
            self.peer.reverify(&generation.bundles, now.min(self.peer.svid().not_after()))?;
        }
        Ok(generation.number)
    }
}

impl From<HandshakeRefusal> for StayOver {
    fn from(refusal: HandshakeRefusal) -> Self {
        Self { rule: refusal.rule, message: refusal.message, ahead: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::timeout;

    use super::*;
    use crate::identity::dev_ca::{DevCa, SvidParams};
    use crate::identity::{SpiffeId, TrustBundle, TrustBundleSet, TrustDomain, X509Generation};

    const HOUR: Duration = Duration::from_secs(3_600);
    /// Far longer than a look at the clock takes here.
    const A_WHILE: Duration = Duration::from_millis(60);

    /// A source and a clock that a test sets.
    #[derive(Debug)]
    struct World {
        ca: DevCa,
        current: Mutex<Option<Arc<X509Generation>>>,
        changed: watch::Sender<u64>,
        wall: Mutex<SystemTime>,
    }

    impl X509Source for World {
        fn current(&self) -> Option<Arc<X509Generation>> {
            self.current.lock().unwrap().clone()
        }

        fn changed(&self) -> watch::Receiver<u64> {
            self.changed.subscribe()
        }
    }

    impl World {
        fn new() -> Arc<Self> {
            let ca = DevCa::new(&TrustDomain::parse("prod.test").unwrap(), HOUR * 100).unwrap();
            let (current, wall) = (Mutex::new(None), Mutex::new(SystemTime::now()));
            let world = Arc::new(Self { ca, current, changed: watch::channel(0).0, wall });
            world.swap(1, &world.ca.certificate_pem());
            world
        }

        /// Puts a new SVID of our own in force, and a bundle for `prod.test`.
        fn swap(&self, number: u64, bundle: &str) {
            let generation = self.generation(number, HOUR * 10, bundle);
            *self.current.lock().unwrap() = Some(Arc::new(generation));
            self.changed.send_replace(number);
        }

        fn generation(&self, number: u64, lifetime: Duration, bundle: &str) -> X509Generation {
            let now = *self.wall.lock().unwrap();
            let id = SpiffeId::parse("spiffe://prod.test/lake").unwrap();
            let minted = self.ca.issue_with(&SvidParams::leaf(&id, lifetime, now)).unwrap();
            let bundle = TrustBundle::from_pem(TrustDomain::parse("prod.test").unwrap(), bundle.as_bytes()).unwrap();
            let bundles = TrustBundleSet::new([bundle]).unwrap();
            X509Generation::new(number, minted.chain.clone(), minted.key().unwrap(), bundles, now).unwrap()
        }

        /// The stay of a peer whose certificate is valid for an hour from now on.
        fn stay(self: &Arc<Self>, outlive: Duration) -> Stay {
            let peer = Peer::local(&self.generation(1, HOUR, &self.ca.certificate_pem()));
            let shown = Arc::clone(self);
            let clock = Clock::from_fn(move || *shown.wall.lock().unwrap());
            let source: Arc<dyn X509Source> = Arc::<Self>::clone(self);
            let stay = Stay::new(Arc::new(peer), source, &clock, outlive);
            Stay { look_every: Duration::from_millis(2), ..stay }
        }

        fn set(&self, change: impl FnOnce(SystemTime) -> SystemTime) {
            let mut wall = self.wall.lock().unwrap();
            *wall = change(*wall);
        }
    }

    async fn stays(stay: &mut Stay) -> bool {
        timeout(A_WHILE, stay.over()).await.is_err()
    }

    async fn over(stay: &mut Stay) -> StayOver {
        timeout(Duration::from_secs(20), stay.over()).await.expect("is over in time")
    }

    #[tokio::test]
    async fn a_clock_that_is_set_beyond_the_end_of_a_certificate_ends_the_stay() {
        let world = World::new();
        let mut stay = world.stay(Duration::ZERO);
        assert!(stays(&mut stay).await);
        world.set(|now| now + HOUR / 2);
        assert!(stays(&mut stay).await, "half of it is left");
        world.set(|now| now + HOUR);
        let over = over(&mut stay).await;
        assert_eq!(over.rule, "peer-expired");
        assert!(
            over.message.contains("the peer's certificate") && over.message.contains("expired 1800 s ago"),
            "{over}"
        );
        assert_eq!(over.ahead, Duration::ZERO);
    }

    #[tokio::test]
    async fn an_end_that_can_be_foreseen_is_told_ahead() {
        let world = World::new();
        let (mut told, mut not_told) = (world.stay(Duration::ZERO).told_ahead(), world.stay(Duration::ZERO));
        world.set(|now| now + HOUR - Duration::from_secs(8));
        assert!(stays(&mut told).await);
        world.set(|now| now + Duration::from_secs(5));
        let over = over(&mut told).await;
        assert_eq!(over.rule, "peer-expired");
        assert!(over.ahead > Duration::from_secs(1) && over.ahead < Duration::from_secs(4), "{over:?}");
        assert!(stays(&mut not_told).await);
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_does_not_lengthen_a_stay_nor_end_it() {
        let world = World::new();
        let mut stay = world.stay(Duration::ZERO);
        // Before the certificate's first moment: it has been valid all the same.
        world.set(|now| now - HOUR);
        world.changed.send_replace(2);
        assert!(stays(&mut stay).await);

        world.set(|now| now + HOUR * 2 - Duration::from_millis(100));
        let mut short = world.stay(Duration::ZERO);
        short.bound.not_after = *world.wall.lock().unwrap() + A_WHILE;
        world.set(|now| now - HOUR * 5);
        assert_eq!(over(&mut short).await.rule, "peer-expired", "what has really passed counts");
    }

    #[tokio::test]
    async fn trust_that_shrinks_ends_a_stay_and_a_rotation_does_not() {
        let world = World::new();
        let mut stay = world.stay(Duration::ZERO);
        let other = DevCa::new(&TrustDomain::parse("prod.test").unwrap(), HOUR).unwrap();
        world.swap(2, &world.ca.certificate_pem());
        assert!(stays(&mut stay).await, "our own SVID is another, the trust is the same");
        world.swap(3, &(world.ca.certificate_pem() + &other.certificate_pem()));
        assert!(stays(&mut stay).await, "trust has grown");

        let only_other =
            TrustBundle::from_pem(TrustDomain::parse("prod.test").unwrap(), other.certificate_pem().as_bytes());
        let minted = other.issue(&SpiffeId::parse("spiffe://prod.test/lake").unwrap(), HOUR / 2).unwrap();
        let bundles = TrustBundleSet::new([only_other.unwrap()]).unwrap();
        let now = SystemTime::now();
        let shrunk = X509Generation::new(4, minted.chain.clone(), minted.key().unwrap(), bundles, now).unwrap();
        *world.current.lock().unwrap() = Some(Arc::new(shrunk));
        world.changed.send_replace(4);
        assert_eq!(over(&mut stay).await.rule, "chain");
    }

    #[tokio::test]
    async fn a_change_before_the_stay_began_is_seen() {
        let world = World::new();
        let mut stay = world.stay(Duration::ZERO);
        *world.current.lock().unwrap() = None;
        world.changed.send_replace(2);
        let mut stay_too = stay.clone();
        assert_eq!(over(&mut stay).await.rule, "no-own-svid");
        assert_eq!(over(&mut stay_too).await.rule, "no-own-svid");
    }

    #[tokio::test]
    async fn what_may_outlive_its_certificate_still_ends_when_trust_shrinks() {
        let world = World::new();
        let mut stay = world.stay(HOUR * 2);
        world.set(|now| now + HOUR * 2);
        world.changed.send_replace(2);
        assert!(stays(&mut stay).await, "it is an hour over its time, of two");
        let mut twin = stay.clone();
        world.set(|now| now + HOUR * 2);
        assert_eq!(over(&mut twin).await.rule, "peer-expired");

        world.set(|now| now - HOUR * 2);
        *world.current.lock().unwrap() = None;
        world.changed.send_replace(3);
        assert_eq!(over(&mut stay).await.rule, "no-own-svid");
    }

    #[tokio::test]
    async fn the_certificate_that_we_have_shown_bounds_our_side_of_a_connection() {
        let world = World::new();
        let mut peers = world.stay(Duration::ZERO);
        peers.bound.not_after += HOUR;
        let mut both = peers.clone().or_our_own();
        world.set(|now| now + HOUR + HOUR / 2);
        let over = over(&mut both).await;
        assert_eq!(over.rule, "own-svid-expired");
        assert!(over.message.contains("our own certificate"), "{over}");
        assert!(stays(&mut peers).await, "a server leaves that to its client");
    }
}
