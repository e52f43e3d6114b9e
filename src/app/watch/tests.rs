use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

thread_local! {
    /// How many events this test's watches have heard: tests run on a thread of their own.
    pub(super) static HEARD: Cell<u64> = const { Cell::new(0) };
}

/// A folder below another, so that the outer one can lose it.
struct Place {
    _folder: TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("root");
        fs::create_dir(&root).unwrap();
        Self { _folder: folder, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    /// As Kubernetes does it: a new folder, `..data` renamed over, the old folder removed
    /// (kubernetes, pkg/volume/util/atomic_writer.go).
    fn swap_data(&self, old: &str, new: &str) {
        self.write(&format!("{new}/svid.pem"), new);
        self.link(new, "..data_tmp");
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        fs::remove_dir_all(self.path(old)).unwrap();
    }

    fn ways(&self, name: &str) -> Ways {
        Ways::of(&[self.path(name)])
    }

    fn watch(&self, names: &[&str]) -> Watch {
        let mut watch = Watch::new(names.iter().map(|name| self.path(name)).collect());
        watch.renew();
        watch
    }
}

/// Waits until the watch tells of something, after which it is renewed as the app does.
async fn told(watch: &mut Watch, of: &str) {
    timeout(Duration::from_secs(10), watch.changed().notified()).await.unwrap_or_else(|_| panic!("not told of {of}"));
    watch.renew();
}

/// Takes what has been told so far.
async fn quiet(watch: &mut Watch) {
    while timeout(Duration::from_millis(50), watch.changed().notified()).await.is_ok() {
        watch.renew();
    }
}

#[test]
fn a_way_goes_through_every_directory_and_every_link() {
    let place = Place::new();
    place.write("real/..1/svid.pem", "1");
    place.link("..1", "real/..data");
    place.link("..data/svid.pem", "real/svid.pem");
    place.link("real", "mount");
    let ways = place.ways("mount/svid.pem");
    for step in ["mount", "real", "real/svid.pem", "real/..data", "real/..1", "real/..1/svid.pem"] {
        assert!(ways.lead_through(&place.path(step)), "{step}: {ways:?}");
    }
    assert!(ways.lead_through(&place.root), "its ancestors too");
    for other in ["other", "real/other", "real/..1/other", "real/..data_tmp"] {
        assert!(!ways.lead_through(&place.path(other)), "{other}: {ways:?}");
    }
    assert!(ways.is_watched(&place.path("real/..1")) && !ways.is_watched(&place.path("mount")));
}

#[test]
fn what_is_not_there_is_awaited_where_it_would_be() {
    let place = Place::new();
    let ways = place.ways("a/b/svid.pem");
    assert!(ways.lead_through(&place.path("a")) && !ways.is_watched(&place.path("a")));
    place.write("a/x", "");
    let ways = place.ways("a/b/svid.pem");
    assert!(ways.lead_through(&place.path("a/b")) && ways.is_watched(&place.path("a")));
    place.link("nowhere/svid.pem", "dangling");
    assert!(place.ways("dangling").lead_through(&place.path("nowhere")));
}

#[test]
fn a_directory_matters_with_all_that_is_in_it() {
    let place = Place::new();
    place.write("bundles/..1/a.pem", "");
    place.link("..1", "bundles/..data");
    place.link("..data/a.pem", "bundles/a.pem");
    let ways = place.ways("bundles");
    for step in ["bundles/new.pem", "bundles/..data", "bundles/..1/a.pem"] {
        assert!(ways.lead_through(&place.path(step)), "{step}: {ways:?}");
    }
    assert!(!ways.lead_through(&place.path("bundles/..1/b.pem")));
}

#[test]
fn links_in_a_circle_end_the_way() {
    let place = Place::new();
    place.link("b", "a");
    place.link("a", "b");
    let ways = place.ways("a/svid.pem");
    assert!(ways.lead_through(&place.path("a")) && ways.lead_through(&place.path("b")));
}

#[test]
fn a_way_back_goes_where_the_system_goes() {
    let place = Place::new();
    place.write("far/below/x", "");
    place.write("far/svid.pem", "");
    place.link("far/below", "near");
    // `..` of what the link leads to, not of where the link stands.
    let ways = place.ways("near/../svid.pem");
    assert!(ways.lead_through(&place.path("far/svid.pem")), "{ways:?}");
}

#[tokio::test]
async fn every_kind_of_change_is_told_of() {
    let place = Place::new();
    place.write("svid.pem", "1");
    let mut watch = place.watch(&["svid.pem"]);
    place.write("svid.pem", "2");
    told(&mut watch, "a rewrite in place").await;
    quiet(&mut watch).await;
    place.write(".next", "3");
    fs::rename(place.path(".next"), place.path("svid.pem")).unwrap();
    told(&mut watch, "a rename into place").await;
    quiet(&mut watch).await;
    fs::remove_file(place.path("svid.pem")).unwrap();
    told(&mut watch, "a removal").await;
    quiet(&mut watch).await;
    place.write("svid.pem", "4");
    told(&mut watch, "a file that is back").await;
    quiet(&mut watch).await;
    place.write("other", "");
    fs::read(place.path("svid.pem")).unwrap();
    let nothing = timeout(Duration::from_millis(200), watch.changed().notified()).await;
    assert!(nothing.is_err(), "another file, and reading, are no change");
}

#[tokio::test]
async fn a_swap_of_the_data_link_is_told_of_again_and_again() {
    let place = Place::new();
    place.write("..1/svid.pem", "1");
    place.link("..1", "..data");
    place.link("..data/svid.pem", "svid.pem");
    let mut watch = place.watch(&["svid.pem"]);
    for n in 2..6 {
        place.swap_data(&format!("..{}", n - 1), &format!("..{n}"));
        told(&mut watch, "a swap").await;
        quiet(&mut watch).await;
        place.write(&format!("..{n}/svid.pem"), "in place");
        told(&mut watch, "a rewrite behind the link").await;
        quiet(&mut watch).await;
    }
}

#[tokio::test]
async fn a_directory_that_is_removed_and_made_again_is_watched_again() {
    let place = Place::new();
    place.write("a/b/svid.pem", "1");
    let mut watch = place.watch(&["a/b/svid.pem"]);
    for round in 0..5 {
        fs::remove_dir_all(place.path("a")).unwrap();
        if round % 2 == 0 {
            told(&mut watch, "a removal").await;
        }
        place.write("a/b/svid.pem", "again");
        told(&mut watch, "a new directory").await;
        quiet(&mut watch).await;
        place.write("a/b/svid.pem", "in the new directory");
        told(&mut watch, "a change in the new directory").await;
        quiet(&mut watch).await;
    }
}

#[tokio::test]
async fn a_directory_that_is_moved_away_for_another_is_not_the_one_that_is_watched() {
    let place = Place::new();
    place.write("a/svid.pem", "1");
    place.write("b/svid.pem", "2");
    let mut watch = place.watch(&["a/svid.pem"]);
    fs::rename(place.path("a"), place.path("away")).unwrap();
    fs::rename(place.path("b"), place.path("a")).unwrap();
    told(&mut watch, "another directory").await;
    quiet(&mut watch).await;
    place.write("a/svid.pem", "3");
    told(&mut watch, "a change in it").await;
    quiet(&mut watch).await;
    place.write("away/svid.pem", "4");
    let nothing = timeout(Duration::from_millis(200), watch.changed().notified()).await;
    assert!(nothing.is_err(), "the one that was moved away matters no more");
}

#[tokio::test]
async fn a_file_that_is_written_to_all_the_time_wakes_nobody() {
    let place = Place::new();
    place.write("svid.pem", "first");
    let mut records = fs::File::options().append(true).create(true).open(place.path("audit.jsonl")).unwrap();
    let mut watch = place.watch(&["svid.pem"]);
    quiet(&mut watch).await;
    let before = HEARD.get();
    for _ in 0..1_000 {
        records.write_all(b"{}\n").unwrap();
    }
    place.write("svid.pem", "second");
    told(&mut watch, "what is read").await;
    // What was written before it was told of before it.
    assert!(HEARD.get() - before <= 4, "{} events for one change", HEARD.get() - before);
}
