//! The whole queue on the server: objects that can't be read for now.

use super::server::Server;
use super::*;
use crate::Queue as _;
use crate::storage::StorageRun;
use crate::storage::client::{StorageQueue, StorageWatch, open};

const HOUR: &str = "event_type=users.messages.email.Send/date=2026-11-27-10";

struct Reading {
    server: Server,
    queue: StorageQueue,
    watch: StorageWatch,
    _root: tempfile::TempDir,
}

impl Reading {
    fn new(server: Server, urls: &[&str]) -> Self {
        Self::with(server, urls, &[])
    }

    /// With these options in the place of those for S3, if there are any.
    fn with(server: Server, urls: &[&str], options: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut settings = StorageSettings {
            poll_interval: Duration::from_millis(20),
            ..settings(&server, root.path(), urls, StorageStart::Beginning)
        };
        if !options.is_empty() {
            settings.options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        }
        let (queue, watch) = open(settings, StorageRun::Follow, Arc::new(|| 1_795_776_800)).unwrap();
        Self { server, queue, watch, _root: root }
    }

    /// Settles what comes within this time: the bodies.
    async fn read_for(&mut self, time: Duration) -> Vec<String> {
        let (until, mut bodies) = (Instant::now() + time, Vec::new());
        while let Ok(received) = tokio::time::timeout_at(until, self.queue.receive()).await {
            let delivery = received.unwrap().unwrap();
            bodies.push(String::from_utf8(delivery.body.to_vec()).unwrap());
            self.queue.acknowledge(delivery.receipt).await.unwrap();
        }
        bodies
    }

    /// Settles what comes until so many bodies came.
    async fn read(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            let received = tokio::time::timeout(Duration::from_secs(20), self.queue.receive()).await;
            let delivery = received.unwrap().unwrap().unwrap();
            bodies.push(String::from_utf8(delivery.body.to_vec()).unwrap());
            self.queue.acknowledge(delivery.receipt).await.unwrap();
        }
        bodies
    }
}

fn event(id: u32) -> String {
    format!("{{\"id\":\"{id}\"}}\n")
}

#[tokio::test]
async fn an_object_that_can_not_be_read_is_tried_ever_less_often_and_is_trouble_until_it_can() {
    let (server, bad) = (Server::start(), format!("{HOUR}/bad"));
    server.put_body(&bad, &event(0));
    server.refuse(&bad, true);
    let mut reading = Reading::new(server, &["s3://b"]);
    let (mut troubles, mut count) = (Vec::new(), 0);
    for id in 1..40 {
        reading.server.put_body(&format!("{HOUR}/good{id}"), &event(id));
        count += reading.read_for(Duration::from_millis(40)).await.len();
        troubles.push(reading.watch.trouble());
    }
    assert!(count > 20, "the others are read: {count}");
    let told: Vec<_> = troubles.iter().skip_while(|trouble| trouble.is_none()).collect();
    assert!(told.len() > 20 && told.iter().all(|trouble| trouble.is_some()), "{troubles:?}");
    let words = told[0].as_ref().unwrap();
    assert!(words.contains("the store refuses it") && !words.contains("bad"), "{words}");
    let reads = reading.server.reads_of(&bad);
    assert!((3..=8).contains(&reads), "{reads}");
    reading.server.refuse(&bad, false);
    let rest = reading.read(40 - count).await;
    assert!(rest.contains(&event(0)), "{rest:?}");
    assert_eq!(reading.watch.trouble(), None);
}

#[tokio::test]
async fn no_more_objects_are_taken_up_than_a_bound_while_none_can_be_read() {
    const OBJECTS: u32 = 1200;
    let server = Server::start();
    let key = |id| format!("{HOUR}/{id:04}");
    for id in 0..OBJECTS {
        server.put_body(&key(id), &event(id));
        server.refuse(&key(id), true);
    }
    let mut reading = Reading::new(server, &["s3://b"]);
    let mut most = 0;
    for _ in 0..60 {
        assert_eq!(reading.read_for(Duration::from_millis(50)).await, [""; 0]);
        most = most.max(reading.watch.counts().objects_waiting);
    }
    assert!((200..600).contains(&most), "{most}");
    (0..OBJECTS).for_each(|id| reading.server.refuse(&key(id), false));
    let mut bodies = reading.read(OBJECTS as usize).await;
    bodies.sort();
    let mut all: Vec<_> = (0..OBJECTS).map(event).collect();
    all.sort();
    assert_eq!(bodies, all);
    assert_eq!(reading.watch.trouble(), None);
}

#[tokio::test]
async fn a_bucket_that_is_away_makes_no_other_wait() {
    let mut reading = Reading::new(Server::start(), &["s3://b", "s3://gone"]);
    reading.read_for(Duration::from_secs(2)).await;
    assert!(reading.watch.trouble().unwrap().contains("s3://gone can't be listed"));
    for id in 0..5 {
        reading.server.put_body(&format!("{HOUR}/{id}"), &event(id));
        assert_eq!(reading.read(1).await, [event(id)]);
    }
    let counts = reading.watch.counts();
    let (failed, well) = (counts.listings_failed, counts.listings - counts.listings_failed);
    assert!(failed > 2 && well > 2 * failed, "{failed} failed, and {well} did not");
}

#[tokio::test]
async fn an_object_of_which_the_store_gives_too_little_is_read_on_when_it_gives_all() {
    let (whole, cut) = ((0..100).map(event).collect::<String>(), (0..50).map(event).collect::<String>());
    let server = Server::start();
    server.put_body(&format!("{HOUR}/a"), &whole);
    server.cut_short(Some(cut.len()));
    let mut reading = Reading::new(server, &["s3://b"]);
    let begun = reading.read_for(Duration::from_millis(500)).await.concat();
    assert!(whole.starts_with(&begun));
    assert_eq!(reading.watch.counts().objects_counted, 0);
    let words = reading.watch.trouble().unwrap();
    assert!(words.contains(&format!("{} of {} bytes", cut.len(), whole.len())), "{words}");
    reading.server.cut_short(None);
    assert_eq!(begun + &reading.read(1).await.concat(), whole);
    reading.read_for(Duration::from_millis(50)).await;
    assert_eq!((reading.watch.counts().objects_counted, reading.watch.trouble()), (1, None));
}

#[tokio::test]
async fn google_s_store_gives_out_objects_as_they_are_stored() {
    let server = Server::start();
    for (id, is_large) in [(0, None), (1, Some(false)), (2, Some(true))] {
        let key = format!("{HOUR}/{id}");
        server.put_body(&key, &event(id));
        if let Some(is_large) = is_large {
            server.pack(&key, is_large);
        }
    }
    let url = format!("http://{}", server.address);
    let options = [("base_url", &*url), ("allow_http", "true"), ("skip_signature", "true")];
    let mut reading = Reading::with(server, &["gs://b"], &options);
    let mut bodies = reading.read(3).await;
    bodies.sort();
    assert_eq!(bodies, [event(0), event(1), event(2)]);
    assert_eq!(reading.watch.trouble(), None);
}
