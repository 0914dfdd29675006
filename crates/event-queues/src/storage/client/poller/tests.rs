//! The poller on a server of S3 that counts what a listing costs.

mod reading;
mod server;

use serde_json::json;

use self::server::Server;
use super::*;
use crate::storage::client::bucket_state::ObjectRecord;
use crate::storage::{StorageSource, StorageStart};

const SEND: &str = "event_type=users.messages.email.Send";
const OTHER: &str = "event_type=users.behaviors.Purchase";

/// The settings for these buckets of the server.
fn settings(
    server: &Server,
    directory: &std::path::Path,
    urls: &[&str],
    start: StorageStart,
) -> StorageSettings {
    let options = [
        ("endpoint", format!("http://{}", server.address)),
        ("allow_http", "true".to_owned()),
        ("region", "eu-central-1".to_owned()),
        ("access_key_id", "a".to_owned()),
        ("secret_access_key", "b".to_owned()),
    ];
    let source = |url: &&str| StorageSource { url: (*url).into(), app_group_id: None };
    StorageSettings {
        sources: urls.iter().map(source).collect(),
        poll_interval: Duration::from_secs(30),
        start,
        lateness: Duration::from_hours(48),
        state_directory: directory.to_owned(),
        options: options.into_iter().map(|(key, value)| (key.into(), (*value).into())).collect(),
        notifications: None,
        event_types: ["users.messages.email.Send".into()].into(),
    }
}

struct Place {
    server: Server,
    poller: BucketPoller,
    found: mpsc::Receiver<ObjectInput>,
    _root: tempfile::TempDir,
}

impl Place {
    fn new(url: &str, start: StorageStart) -> Self {
        let (server, root) = (Server::start(), tempfile::tempdir().unwrap());
        let settings = settings(&server, root.path(), &[url], start);
        let bucket = Bucket::new(&settings.sources[0], &settings.options).unwrap();
        let (sender, found) = mpsc::channel(100_000);
        let state = BucketState::open(root.path()).unwrap();
        let poller = BucketPoller {
            buckets: [bucket].into(),
            state_thread: StateThread::start(state.clone()).unwrap(),
            state,
            settings,
            health: Arc::new(BucketHealth::new(1)),
            found: sender,
            // 2026-11-27T10:53:20Z
            now: Arc::new(|| 1_795_776_800),
            states: vec![SourceState::default()],
            notifications: None,
            unheard: None,
            is_notified: false,
            is_outdated: false,
            stray_told: None,
            foreign_told: None,
        };
        Self { server, poller, found, _root: root }
    }

    fn put<K: AsRef<str>>(&self, keys: &[K]) {
        for key in keys {
            self.server.put(key.as_ref());
        }
    }

    /// Lists, and leaves what is found where it is.
    async fn look(&mut self) {
        self.poller.list(0, false).await.unwrap_or_else(|_| panic!("it can't be listed"));
    }

    /// As every ten minutes.
    async fn look_at_all(&mut self) {
        self.poller.states[0].swept = None;
        self.look().await;
    }

    /// Lists, and settles what is found.
    async fn list(&mut self) -> Vec<String> {
        self.look().await;
        let (mut found, url) = (Vec::new(), Arc::clone(&self.poller.buckets[0].url));
        while let Ok(ObjectInput::Object(object)) = self.found.try_recv() {
            let FoundObject { meta, version, .. } = *object;
            let (path, standing) = (meta.location.to_string(), ObjectStanding::Counted);
            self.poller.health.pending.end(&(0, path.clone()));
            let record = ObjectRecord { version, standing, place: None, print: None };
            self.poller.state.settle(&[(Arc::clone(&url), path.clone(), record)]).unwrap();
            found.push(path);
        }
        found.sort();
        found
    }

    /// As every ten minutes.
    async fn sweep(&mut self) -> Vec<String> {
        self.poller.states[0].swept = None;
        self.list().await
    }
}

/// The path of each hour of so many days, up to now.
fn hours(days: i64) -> impl Iterator<Item = String> {
    let now = PathHour::of(1_795_776_800).0;
    (now - days * 24 + 1..=now)
        .map(|hour| PathHour(hour).below(&Path::default(), HourForm::Slashes).to_string())
}

#[tokio::test]
async fn hours_in_slashes_cost_what_their_last_ones_do() {
    for (above, levels) in [(&["sends"][..], 2), (&["space/hub/0", "space/hub/1"], 5)] {
        let mut place = Place::new("s3://b", StorageStart::Beginning);
        for above in above {
            hours(100).for_each(|hour| place.server.put(format!("{above}/{hour}/05/00.avro")));
        }
        assert_eq!(place.list().await.len(), 2400 * above.len());
        let pages = 3 * above.len();
        assert_eq!(place.server.listings().len(), levels + pages, "all is listed once");
        assert_eq!(place.sweep().await, [""; 0], "now everything is settled");
        place.server.listings();
        // Two days are open.
        for is_sweep in [false, true, false] {
            let next = format!("{}/2026/11/27/10/new-{is_sweep}", above[0]);
            let late = format!("{}/2026/11/25/11/late-{is_sweep}", above[0]);
            let too_late = format!("{}/2026/11/25/09/too-late", above[0]);
            place.put(&[&next, &late, &too_late]);
            let found = if is_sweep { place.sweep().await } else { place.list().await };
            assert!(found.contains(&next) && !found.contains(&too_late), "{found:?}");
            assert_eq!(found.contains(&late), is_sweep, "{found:?}");
            let above_pure = levels - above.len();
            let expected = if is_sweep { levels } else { above_pure } + above.len();
            assert_eq!(place.server.listings().len(), expected);
        }
    }
}

#[tokio::test]
async fn what_only_looks_like_hours_in_slashes_is_listed_whole_and_never_twice_new() {
    let mut place = Place::new("s3://b", StorageStart::Beginning);
    hours(3).for_each(|hour| place.server.put(format!("{hour}/a")));
    assert_eq!(place.list().await.len(), 72);
    place.put(&["2026/11/27/loose"]);
    assert_eq!(place.list().await, ["2026/11/27/loose"]);
    place.put(&["2026/11/01/old"]);
    assert_eq!(place.sweep().await, ["2026/11/01/old"]);
    place.poller.states[0] = SourceState::default();
    assert_eq!(place.list().await, [""; 0], "after a start");
}

#[tokio::test]
async fn requests_do_not_grow_with_directories_that_lead_to_no_hours() {
    let mut place = Place::new("s3://b", StorageStart::Beginning);
    for day in 1..29 {
        for hour in 0..24 {
            place.server.put(format!("hive/year=2026/month=11/day={day:02}/hour={hour:02}/a"));
            place.server.put(format!("days/2026-11-{day:02}/{hour:02}/a"));
        }
        for batch in 0..30 {
            place.server.put(format!("batches/{day}-{batch:x}/deep/er/a"));
        }
    }
    (0..1001).for_each(|batch| place.server.put(format!("many/{batch}/a/b")));
    assert_eq!(place.list().await.len(), 28 * (48 + 30) + 1001);
    place.server.listings();
    place.put(&["hive/year=2026/month=11/day=01/hour=01/b", "days/2026-11-01/b", "many/7/b", "new/x/y"]);
    place.put(&["batches/new/b"]);
    assert_eq!(place.list().await.len(), 5);
    assert_eq!(place.server.listings(), ["/", "batches", "days", "hive", "many", "many", "new/", "new/x/"]);
    assert_eq!(place.list().await, [""; 0]);
    place.server.listings();
    assert_eq!(place.sweep().await, [""; 0]);
    let listings = place.server.listings();
    let below = |above: &str| listings.iter().filter(|listed| listed.starts_with(above)).count();
    assert_eq!((below("hive"), below("days"), below("many")), (2, 2, 4), "{listings:?}");
}

#[tokio::test]
async fn what_lies_beside_hours_is_found_wherever_it_sorts() {
    for start in [StorageStart::Beginning, StorageStart::Now] {
        let mut place = Place::new("s3://b", start);
        let currents = format!("data/{SEND}/date=2026-11-27-10");
        let old = [
            format!("data/{SEND}/app/x"),
            format!("{currents}/a"),
            format!("data/{SEND}/zoo/x"),
            "date=2026-11-20/a".to_owned(),
            "date=2026-11-27/a".to_owned(),
            format!("{SEND}/date=2026-11-27-10/a"),
            "loose".to_owned(),
            "zoo/2026/11/27/10/a".to_owned(),
            "zoo/a/b".to_owned(),
        ];
        place.put(&old);
        place.put(&[format!("data/{OTHER}/date=2026-11-27-10/a"), format!("{OTHER}/a")]);
        let mut expected = old.to_vec();
        expected.sort();
        let found = place.list().await;
        assert_eq!(found, if start == StorageStart::Beginning { expected } else { Vec::new() });
        let listings = place.server.listings();
        assert!(!listings.iter().any(|listed| listed.contains("Purchase")), "{listings:?}");
        assert_eq!(place.sweep().await, [""; 0], "now everything is settled");
        for is_sweep in [false, true] {
            let mut new: Vec<_> = old
                .iter()
                .filter(|key| !key.contains("-20"))
                .map(|key| format!("{key}-{is_sweep}"))
                .collect();
            new.sort();
            place.put(&new);
            place.put(&["date=2026-11-20/too late"]);
            let found = if is_sweep { place.sweep().await } else { place.list().await };
            assert_eq!(found, new);
        }
    }
}

/// How the next wait for a listing ends, if it does within a second.
async fn is_listed_soon(place: &mut Place) -> bool {
    let waited = place.poller.wait(Duration::from_millis(200), false);
    tokio::time::timeout(Duration::from_secs(1), waited).await.is_ok()
}

#[tokio::test]
async fn what_is_notified_of_another_bucket_stays_in_its_queue_and_spares_no_listing() {
    let mut place = Place::new("s3://b", StorageStart::Beginning);
    let queue = format!("http://{}/1/notifications", place.server.address);
    let notifications = Notifications::new(&queue, &place.poller.settings.options).unwrap();
    place.poller.notifications = Some(Arc::new(notifications));
    assert_eq!(place.list().await, [""; 0]);
    assert!(
        !is_listed_soon(&mut place).await,
        "a queue without messages may be of a bucket without new objects"
    );

    let key = format!("{SEND}/date=2026-11-27-10/a");
    let created = |bucket: &str, key: &str| json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]});
    place.server.send("test", &json!({"Event": "s3:TestEvent"}));
    place.server.send("foreign", &created("another", &key));
    assert!(is_listed_soon(&mut place).await);
    assert_eq!(place.server.messages(), ["foreign"]);

    place.put(&[&key]);
    place.server.send("ours", &created("b", &key));
    place.server.send("elsewhere", &created("b", "gone"));
    assert!(!is_listed_soon(&mut place).await, "its notifications come");
    assert_eq!(place.server.messages(), ["foreign"]);
    let Ok(ObjectInput::Object(object)) = place.found.try_recv() else { panic!("it was not found") };
    assert_eq!(object.meta.location.as_ref(), key);
}

#[tokio::test]
async fn what_is_notified_and_can_not_be_read_or_grows_is_listed_soon() {
    let mut place = Place::new("s3://b", StorageStart::Beginning);
    let queue = format!("http://{}/1/notifications", place.server.address);
    let notifications = Notifications::new(&queue, &place.poller.settings.options).unwrap();
    place.poller.notifications = Some(Arc::new(notifications));
    assert_eq!(place.list().await, [""; 0]);
    let key = format!("{SEND}/date=2026-11-27-10/a");
    let created = json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}]});
    place.put(&[&key]);
    for receipt in ["first", "once more"] {
        place.server.send(receipt, &created);
        assert!(!is_listed_soon(&mut place).await, "it is on its way");
    }
    let Ok(ObjectInput::Object(object)) = place.found.try_recv() else { panic!("it was not found") };
    place.poller.health.pending.interrupt(&object.key(), None, Some(Duration::ZERO));
    assert!(is_listed_soon(&mut place).await, "it is to be read again");

    place.look().await;
    assert!(!is_listed_soon(&mut place).await, "it is on its way again");
    place.put(&[&key]);
    place.server.send("grown", &created);
    assert!(is_listed_soon(&mut place).await, "an earlier version is on its way");
    assert_eq!(place.server.messages(), [""; 0]);
}

#[tokio::test]
async fn an_object_that_alone_can_not_be_read_keeps_no_hour_open_beyond_the_lateness() {
    let mut place = Place::new("s3://b", StorageStart::Beginning);
    let [bad, good] = ["25-08/bad", "27-10/good"].map(|name| format!("{SEND}/date=2026-11-{name}"));
    place.put(&[&bad, &good]);
    place.look().await;
    let health = Arc::clone(&place.poller.health);
    let (key, fail) =
        ((0, bad.clone()), || health.pending.interrupt(&(0, bad.clone()), None, Some(Duration::ZERO)));
    let done_before = |place: &Place| place.poller.states[0].record.as_ref().unwrap().done_before.unwrap();
    let hour = |name: &str| PathHour::in_part(name).unwrap().0;
    // As long as none can be read, the store is what fails.
    (0..9).for_each(|_| fail());
    place.look_at_all().await;
    assert_eq!(done_before(&place), hour("date=2026-11-25-08"));
    health.note_reading_trouble(0, "words");
    let watch = crate::storage::client::StorageWatch(Arc::clone(&health));
    // Some of it was handed out, and is not settled; then it is, and is of an earlier version.
    let record = |version: &str| ObjectRecord {
        version: version.to_owned(),
        standing: ObjectStanding::Begun,
        place: None,
        print: None,
    };
    for is_settled in [false, true] {
        for _ in 0..9 {
            health.pending.read(&(0, good.clone()));
            health.pending.interrupt(&key, Some(record("2")), Some(Duration::ZERO));
        }
        if is_settled {
            let settled = (Arc::clone(&place.poller.buckets[0].url), bad.clone(), record("1"));
            place.poller.state.settle(&[settled]).unwrap();
        }
        place.look_at_all().await;
        assert_eq!(watch.counts().objects_left_out, u64::from(is_settled));
        assert_eq!(watch.trouble().is_none(), is_settled);
        let expected = if is_settled { "date=2026-11-25-10" } else { "date=2026-11-25-08" };
        assert_eq!(done_before(&place), hour(expected));
    }
    assert_eq!(place.poller.state.object("s3://b", &bad).unwrap(), None, "its hour is over");
}

/// An older hour keeps its own open, and nothing of it is read and left out again.
#[tokio::test]
async fn an_object_that_was_left_out_stays_so_until_it_is_written_anew() {
    let mut place = Place::new("s3://b", StorageStart::Beginning);
    let [older, bad, good] =
        ["25-07/a", "25-08/bad", "27-10/good"].map(|name| format!("{SEND}/date=2026-11-{name}"));
    place.put(&[&older, &bad, &good]);
    place.look().await;
    let health = Arc::clone(&place.poller.health);
    for _ in 0..9 {
        health.pending.read(&(0, good.clone()));
        health.pending.interrupt(&(0, bad.clone()), None, Some(Duration::ZERO));
    }
    let sweep = async |place: &mut Place| {
        place.look_at_all().await;
        let left_out = health.left_out.load(std::sync::atomic::Ordering::Relaxed);
        (left_out, health.pending.totals().objects)
    };
    assert_eq!(sweep(&mut place).await, (1, 2));
    assert_eq!(sweep(&mut place).await, (1, 2));
    place.put(&[&bad]);
    assert_eq!(sweep(&mut place).await, (1, 3));
}

/// It is of an hour that only sweeps list.
#[tokio::test]
async fn what_can_not_be_read_is_looked_for_where_nothing_is_listed() {
    let mut place = Place::new("s3://b", StorageStart::Beginning);
    let [old, gone, new] =
        ["27-05/old", "27-05/gone", "27-10/new"].map(|name| format!("{SEND}/date=2026-11-{name}"));
    place.put(&[&old, &gone, &new]);
    place.look().await;
    let health = Arc::clone(&place.poller.health);
    while place.found.try_recv().is_ok() {}
    for path in [&old, &gone] {
        health.pending.interrupt(&(0, path.clone()), None, Some(Duration::ZERO));
    }
    place.server.remove(&gone);
    place.look().await;
    let Ok(ObjectInput::Object(object)) = place.found.try_recv() else { panic!("it was not found") };
    assert_eq!(object.key(), (0, old));
    assert!(place.found.try_recv().is_err());
    assert_eq!((health.pending.totals().objects, health.pending.has_failed(0)), (2, true));
}

/// Once it is seen by itself, and then in a listing.
#[tokio::test]
async fn an_object_has_one_version_however_an_answer_writes_it() {
    let mut place = Place::new("s3://b", StorageStart::Beginning);
    let [old, new] = ["27-05/old", "27-10/new"].map(|name| format!("{SEND}/date=2026-11-{name}"));
    place.server.list_without_quotes();
    place.put(&[&old, &new]);
    place.look().await;
    while place.found.try_recv().is_ok() {}
    place.poller.health.pending.interrupt(&(0, old.clone()), None, Some(Duration::ZERO));
    assert_eq!(place.list().await, [old]);
    assert_eq!(place.sweep().await, [""; 0], "it was written once");
}

/// The client asks for `a` where a key is `/a`.
#[tokio::test]
async fn keys_that_begin_with_a_slash_are_passed_and_the_others_are_found_as_ever() {
    let hours = |above: &str| format!("{above}date=2026-11-27-10/a");
    let many: Vec<_> = (0..1001).map(|directory| format!("{directory:04}x/a")).collect();
    for (keys, listings) in [
        (vec![hours(&format!("{SEND}/"))], vec!["/".to_owned(), format!("{SEND}/"), SEND.to_owned()]),
        (vec![hours("")], vec!["/".to_owned(), "date=2026-11-27-10".to_owned()]),
        (vec!["2026/11/27/10/a".to_owned()], vec!["/".to_owned(), "2026".to_owned()]),
        (vec!["x/y".to_owned()], vec!["/".to_owned(), "x/".to_owned()]),
        (
            many.clone(),
            // Two pages.
            ["/", "/"].into_iter().chain(many.iter().map(|key| &key[..5])).map(str::to_owned).collect(),
        ),
    ] {
        let mut place = Place::new("s3://b", StorageStart::Beginning);
        place.put(&keys);
        place.put(&[format!("/{}", keys[0]), "/odd".to_owned()]);
        assert_eq!(place.list().await, keys);
        assert!(place.poller.states[0].is_nameless_told);
        assert_eq!(place.server.listings(), listings);
        place.put(&[format!("/{}-new", keys[0]), "//a".to_owned()]);
        assert_eq!(place.list().await, [""; 0]);
        assert_eq!(place.sweep().await, [""; 0]);
    }
}

#[tokio::test]
async fn an_import_of_fewer_types_does_not_make_the_others_new() {
    let mut place = Place::new("s3://b", StorageStart::Now);
    place.poller.settings.event_types.insert("users.messages.sms.Send".into());
    assert_eq!(place.list().await, [""; 0]);
    let known = place.poller.state.event_types("s3://b").unwrap().unwrap();
    assert_eq!(known.len(), 2);
    let one: BTreeSet<Box<str>> = known.iter().take(1).cloned().collect();
    place.poller.settings.start = StorageStart::Beginning;
    place.poller.settings.event_types = one;
    place.poller.states[0] = SourceState::default();
    assert_eq!(place.list().await, [""; 0]);
    assert_eq!(place.poller.state.event_types("s3://b").unwrap(), Some(known));
}

#[tokio::test]
async fn a_disk_that_is_slow_with_a_commit_holds_up_nothing_else() {
    const SLOW: Duration = Duration::from_secs(2);
    let mut place = Place::new("s3://b", StorageStart::Now);
    place.put(&[format!("{SEND}/date=2026-11-27-10/a")]);
    for _ in 0..2 {
        place.poller.states[0].swept = None;
        let (state, (begun, has_begun)) = (place.poller.state.clone(), std::sync::mpsc::sync_channel(1));
        let slow = std::thread::spawn(move || {
            state.hold(|| {
                begun.send(()).unwrap();
                std::thread::sleep(SLOW);
            });
        });
        has_begun.recv().unwrap();
        let mut longest = Duration::ZERO;
        let ticks = async {
            loop {
                let asked = Instant::now();
                tokio::time::sleep(Duration::from_millis(10)).await;
                longest = longest.max(asked.elapsed());
            }
        };
        tokio::select! {
            _ = place.poller.list(0, false) => {}
            () = ticks => {}
        }
        slow.join().unwrap();
        assert!(longest < SLOW / 2, "{longest:?}");
    }
}
