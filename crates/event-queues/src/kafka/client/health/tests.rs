use rdkafka::types::RDKafkaErrorCode;

use super::super::refusal::{ClientIdentity, of_error};
use super::troubles::REFUSED_AGAIN_WITHIN;
use super::*;

fn watched() -> (Arc<Health>, KafkaWatch) {
    let health = Arc::new(Health::default());
    health.set_connected(true);
    (Arc::clone(&health), KafkaWatch(health))
}

#[test]
fn one_trouble_does_not_hide_or_clear_another() {
    let (health, watch) = watched();
    assert!(health.note_trouble(Trouble::Registry, "the registry is away"));
    assert!(health.note_trouble(Trouble::Topics, "no such topic"));
    assert_eq!(watch.trouble().as_deref(), Some("no such topic"));
    assert!(health.clear(Trouble::Topics));
    assert_eq!(watch.trouble().as_deref(), Some("the registry is away"));
    assert!(health.note_trouble(Trouble::Access, "no right"));
    assert!(health.clear(Trouble::Registry));
    assert_eq!(watch.trouble().as_deref(), Some("no right"));
}

#[test]
fn a_message_behind_a_refusal_makes_it_ready_again_and_leaves_the_registry_alone() {
    let (health, watch) = watched();
    for trouble in [Trouble::Access, Trouble::Group] {
        assert!(health.note_trouble(trouble, "refused"));
    }
    health.note_trouble(Trouble::Registry, "the registry is away");
    health.came_through(&["t"], ["t"].into_iter());
    assert_eq!(watch.trouble().as_deref(), Some("the registry is away"));
    health.clear(Trouble::Registry);
    assert_eq!(watch.trouble(), None);
}

#[test]
fn the_same_trouble_is_logged_once_a_minute_however_often_it_comes_and_goes() {
    let (health, _watch) = watched();
    assert!(health.note_trouble(Trouble::Access, "refused"));
    assert!(!health.note_trouble(Trouble::Access, "refused"), "it is there already");
    health.came_through(&["t"], ["t"].into_iter());
    assert!(!health.note_trouble(Trouble::Access, "refused"), "it was told a moment ago");
    assert!(health.note_trouble(Trouble::Access, "refused otherwise"));
}

#[test]
fn what_is_refused_is_told_before_what_can_not_be_reached() {
    let health = Arc::new(Health::default());
    let watch = KafkaWatch(Arc::clone(&health));
    assert_eq!(watch.trouble(), None, "an import comes before the group is joined");
    health.join();
    assert_eq!(watch.trouble().as_deref(), Some("no Kafka broker can be reached"));
    health.note_trouble(Trouble::Access, "the password is wrong");
    assert_eq!(watch.trouble().as_deref(), Some("the password is wrong"));
}

/// What librdkafka says about a topic of the subscription.
fn refuse(health: &Health, topic: &str, code: RDKafkaErrorCode) {
    let reason = format!("Subscribed topic not available: {topic}: Broker: {code}");
    health.refuse(&of_error(code, &reason, ClientIdentity::default()).unwrap(), &reason);
}

#[test]
fn a_topic_that_is_refused_stays_so_whatever_comes_of_others() {
    let (health, watch) = watched();
    for topic in ["away", "gone", "^none-yet-.*"] {
        refuse(&health, topic, RDKafkaErrorCode::UnknownTopicOrPartition);
    }
    refuse(&health, "secret", RDKafkaErrorCode::TopicAuthorizationFailed);
    health.came_through(&["t"], ["t"].into_iter());
    let said = watch.trouble().unwrap();
    assert!(said.contains("mend its name: away, gone;") && said.ends_with("on the topic): secret"), "{said}");
    assert_eq!(health.refused_topics(), ["away", "gone", "secret"]);
    assert_eq!(health.unread().as_deref(), Some(&*said));
    assert!(!health.is_unreadable_for(Duration::ZERO), "nothing stands still");

    // One is seen by its messages, one by its partitions, the last because the broker names it.
    health.came_through(&["away"], ["away", "t"].into_iter());
    health.assigned(&["secret"]);
    assert!(watch.trouble().unwrap().ends_with("mend its name: gone"));
    health.note_topics_found(&["gone".into()], &["gone".into()]);
    assert_eq!((watch.trouble(), health.unread()), (None, None));
}

#[test]
fn a_read_that_is_refused_is_disproved_by_all_topics_together() {
    let (health, watch) = watched();
    let reason = "Fetch from broker 1 failed: Broker: Topic authorization failed";
    let refusal =
        of_error(RDKafkaErrorCode::TopicAuthorizationFailed, reason, ClientIdentity::default()).unwrap();
    let came_through = |topic| health.came_through(&[topic], ["a", "b", "a"].into_iter());
    health.refuse(&refusal, reason);
    assert!(health.is_unreadable_for(Duration::ZERO) && !health.is_unreadable_for(Duration::from_mins(1)));
    health.assigned(&["a", "b"]);
    came_through("a");
    assert!(health.is_in(Trouble::Reads));
    // What was readable before the next report need not be so now.
    health.refuse(&refusal, reason);
    came_through("b");
    assert!(watch.trouble().unwrap().contains("may not read a topic"));
    came_through("a");
    assert_eq!(watch.trouble(), None);
}

#[test]
fn a_refused_fetch_is_over_when_it_is_reported_no_more() {
    let (health, watch) = watched();
    for trouble in [Trouble::Reads, Trouble::Standstill] {
        health.note_trouble(trouble, "refused");
        health.note_fetching();
        assert!(health.is_in(trouble));
        let long_ago = Instant::now().checked_sub(REFUSED_AGAIN_WITHIN + Duration::from_secs(1)).unwrap();
        health.troubles().slot(trouble).seen = Some(long_ago);
        health.lasts(trouble);
        health.note_fetching();
        assert!(health.is_in(trouble));
        health.troubles().slot(trouble).seen = Some(long_ago);
        health.note_fetching();
        assert_eq!(watch.trouble(), None);
        health.lasts(trouble);
        assert_eq!(watch.trouble(), None, "what is over can't last");
    }
}

#[test]
fn a_topic_that_was_asked_for_and_is_not_there_is_told_once() {
    let (health, watch) = watched();
    let (t, absent): (String, String) = ("t".into(), "absent".into());
    let asked = [t.clone(), absent.clone()];
    health.note_topics_found(&asked, std::slice::from_ref(&t));
    let said = watch.trouble().unwrap();
    assert!(said.contains("may not see it") && said.ends_with(": absent"), "{said}");
    // What librdkafka has said of it stays.
    refuse(&health, "t", RDKafkaErrorCode::TopicAuthorizationFailed);
    health.note_topics_found(&asked, &[absent]);
    assert!(watch.trouble().unwrap().ends_with("on the topic): t"));
    health.note_topics_found(&asked, &asked);
    assert_eq!(watch.trouble(), None);
}

#[test]
fn a_group_that_takes_no_member_is_trouble_after_a_while_unless_it_is_explained() {
    let (health, watch) = watched();
    let after = |membership, patience: Duration| {
        let since = Instant::now().checked_sub(patience).unwrap();
        health.note_membership(membership);
        health.troubles().unsettled = Some((membership, since));
        health.note_membership(membership);
        watch.trouble()
    };
    let away = || after(Membership::WithoutCoordinator, COORDINATOR_AWAY_MAX);
    health.note_membership(Membership::WithoutCoordinator);
    assert_eq!(watch.trouble(), None, "another broker takes over");
    assert!(away().unwrap().contains("can't be had"));
    health.note_membership(Membership::Joining);
    assert_eq!(watch.trouble(), None, "there is one");
    assert_eq!(after(Membership::Joining, COORDINATOR_AWAY_MAX), None, "others may be busy");
    assert!(after(Membership::Joining, JOINING_MAX).unwrap().contains("into the group"));
    health.note_membership(Membership::Member);
    assert_eq!(watch.trouble(), None);

    // Without a broker there is none either; its time begins with the broker.
    away();
    health.set_connected(false);
    health.note_membership(Membership::WithoutCoordinator);
    health.set_connected(true);
    health.note_membership(Membership::WithoutCoordinator);
    assert_eq!(watch.trouble(), None);
    health.note_trouble(Trouble::Group, "the group is not for this client");
    away();
    health.clear(Trouble::Group);
    assert_eq!(watch.trouble(), None, "the group's refusal has said it");
    health.note_trouble(Trouble::Topics, "there is nothing to join for");
    after(Membership::Joining, JOINING_MAX);
    health.clear(Trouble::Topics);
    assert_eq!(watch.trouble(), None);
}
