//! Turns librdkafka's errors into messages that name the setting. Pure.
//!
//! Its error codes are few and its texts say more, so some cases are recognised by their text. Should a text change, the
//! message becomes that of the code alone.

use rdkafka::types::RDKafkaErrorCode as Code;

/// Kinds of trouble, by what ends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// TLS or SASL: the broker and this client do not agree to talk.
    Access,
    /// The group does not take this client.
    Group,
    /// The group's coordinator can't be had, or takes no member.
    Coordinator,
    /// Topics of the subscription are not there, or not for this client. Kept by topic.
    Topics,
    /// A topic that is there may not be read; which one is not said.
    Reads,
    /// Something of the topics stands still, for as long as that is reported: the offset of a partition may not be reset, its next
    /// messages can't be read, or the broker that assigns the partitions refuses a topic.
    Standstill,
    /// Partitions have no leader that can be reached.
    Leaders,
    /// Commits are refused.
    Commits,
    /// The schema registry can't be asked.
    Registry,
}

impl Trouble {
    pub(super) const ALL: [Self; 9] = [
        Trouble::Access,
        Trouble::Group,
        Trouble::Coordinator,
        Trouble::Topics,
        Trouble::Reads,
        Trouble::Standstill,
        Trouble::Leaders,
        Trouble::Commits,
        Trouble::Registry,
    ];

    /// Whether any message or successful commit shows that it is over. The others end in other ways.
    pub(super) fn is_disproved_by_messages(self) -> bool {
        matches!(self, Trouble::Access | Trouble::Group)
    }

    /// Whether something of `queue.kafka.topics` is not read, and the rest is.
    pub(super) fn is_of_some_topics(self) -> bool {
        matches!(self, Trouble::Topics | Trouble::Reads | Trouble::Standstill | Trouble::Leaders)
    }
}

/// A refusal that somebody has to fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BrokerRefusal {
    pub(super) trouble: Trouble,
    /// What is wrong, and which setting it is about.
    pub(super) words: &'static str,
}

impl BrokerRefusal {
    const fn new(trouble: Trouble, words: &'static str) -> Self {
        Self { trouble, words }
    }
}

/// The client's identity, as far as messages depend on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ClientIdentity {
    /// `security.protocol` is one with TLS.
    pub(super) has_tls: bool,
    pub(super) sasl: Sasl,
    /// A client certificate is set.
    pub(super) has_certificate: bool,
}

/// The client's SASL identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sasl {
    /// `security.protocol` is one without SASL.
    #[default]
    None,
    Password,
    /// `sasl.mechanisms` is OAUTHBEARER.
    Token,
}

/// The topic of the subscription, or the pattern, that an error event is about.
pub(super) fn topic_of(reason: &str) -> Option<&str> {
    let (topic, _why) = reason.strip_prefix("Subscribed topic not available: ")?.split_once(": ")?;
    Some(topic)
}

fn of_topics(reason: &str) -> Trouble {
    if topic_of(reason).is_some() {
        Trouble::Topics
    } else if reason.starts_with("ConsumerGroupHeartbeat failed") {
        Trouble::Standstill
    } else {
        Trouble::Reads
    }
}

/// The meaning of an error event, if somebody has to act.
pub(super) fn of_error(code: Code, reason: &str, identity: ClientIdentity) -> Option<BrokerRefusal> {
    let refusal = match code {
        Code::Authentication | Code::SaslAuthenticationFailed => of_sasl(reason, identity),
        Code::SSL | Code::BrokerTransportFailure => of_tls(code, reason, identity)?,
        Code::UnknownTopicOrPartition | Code::UnknownTopic => BrokerRefusal::new(
            of_topics(reason),
            "a topic of queue.kafka.topics does not exist on the Kafka broker: create it, or mend its name",
        ),
        Code::TopicAuthorizationFailed => BrokerRefusal::new(
            of_topics(reason),
            "this client may not read a topic of queue.kafka.topics: give it the right to (Read and Describe on the \
             topic)",
        ),
        Code::GroupAuthorizationFailed => BrokerRefusal::new(
            Trouble::Group,
            "this client may not use queue.kafka.group_id: give it the right to (Read on the group)",
        ),
        Code::InconsistentGroupProtocol => BrokerRefusal::new(
            Trouble::Group,
            "the members of queue.kafka.group_id disagree on \"partition.assignment.strategy\" or \"group.protocol\" \
             in [queue.kafka.options]: give all the same",
        ),
        Code::GroupMaxSizeReached => BrokerRefusal::new(
            Trouble::Group,
            "the group of queue.kafka.group_id has as many members as the Kafka broker allows: raise its \
             group.max.size, or stop a member",
        ),
        Code::AutoOffsetReset => BrokerRefusal::new(
            Trouble::Standstill,
            "\"auto.offset.reset\" in [queue.kafka.options] is error, and the Kafka broker does not hold the group's \
             offset (any more): set the group's offsets, or \"auto.offset.reset\" to earliest",
        ),
        _ if is_of_messages(reason) => BrokerRefusal::new(
            Trouble::Standstill,
            "a partition of queue.kafka.topics stands still: the Kafka broker does not give its next messages, or they are damaged, \
             or in a form that this client can't read. If that lasts, look at the broker's log, or set the group's offset \
             behind them",
        ),
        _ => return None,
    };
    Some(refusal)
}

/// Whether an error event says that messages could not be read. Source: librdkafka, `rdkafka_fetcher.c` and `rdkafka_msgset_reader.c`.
fn is_of_messages(reason: &str) -> bool {
    let begins = ["Decompression (", "Message at ", "MessageSet at ", "Unsupported Message(Set) "];
    begins.iter().any(|begin| reason.starts_with(begin))
        || reason.starts_with("Fetch from broker ") && reason.contains(" failed at ")
}

/// The meaning of a line of librdkafka's log, where there is no error event for it.
pub(super) fn of_log(facility: &str, line: &str, identity: ClientIdentity) -> Option<BrokerRefusal> {
    if facility != "FAIL" || !line.contains("Disconnected") {
        return None;
    }
    if line.contains("in state APIVERSION_QUERY") && !identity.has_tls {
        return Some(BrokerRefusal::new(
            Trouble::Access,
            "the Kafka broker closes the connection at the first word: if it speaks TLS at this port, set \
             \"security.protocol\" in [queue.kafka.options] to SSL or SASL_SSL",
        ));
    }
    if line.contains("in state UP")
        && lasted(line).is_some_and(|lasted| lasted < 100)
        && identity.sasl == Sasl::None
    {
        return Some(BrokerRefusal::new(
            Trouble::Access,
            "the Kafka broker closes connections as soon as they are open: if it wants SASL, set \
             \"security.protocol\" in [queue.kafka.options] to SASL_SSL or SASL_PLAINTEXT, and sasl.*",
        ));
    }
    None
}

/// The milliseconds of `(after 12ms in state …`.
fn lasted(line: &str) -> Option<u64> {
    line.rsplit_once("(after ")?.1.split_once("ms in state")?.0.parse().ok()
}

fn of_sasl(reason: &str, identity: ClientIdentity) -> BrokerRefusal {
    let words = if reason.contains("mechanism handshake failed") {
        "the Kafka broker does not take this SASL mechanism: set \"sasl.mechanisms\" in [queue.kafka.options] to one \
         that it offers, or \"security.protocol\" to one without SASL where it offers none"
    } else if identity.sasl == Sasl::Token {
        "the Kafka broker refuses this client's token, or there is none: look at queue.kafka.oauth_token_file"
    } else {
        "the Kafka broker refuses this client's password or user: look at \"sasl.username\" and \"sasl.password\" in \
         [queue.kafka.options]"
    };
    BrokerRefusal::new(Trouble::Access, words)
}

/// Alerts have numbers (RFC 8446, section 6).
fn of_tls(code: Code, reason: &str, identity: ClientIdentity) -> Option<BrokerRefusal> {
    let is_alert = reason.contains("alert");
    let words = if is_of_certificate(reason) {
        UNVERIFIED
    } else if is_alert
        && [
            "bad certificate",
            "certificate required",
            "handshake failure",
            "certificate unknown",
            "certificate expired",
            "unknown ca",
            "unsupported certificate",
            "certificate revoked",
        ]
        .iter()
        .any(|alert| reason.contains(alert))
    {
        if identity.has_certificate {
            "the Kafka broker refuses this client's certificate: look at \"ssl.certificate.location\" in \
             [queue.kafka.options]: it has expired, or is not of a CA that the broker trusts"
        } else {
            "the Kafka broker wants a certificate of this client: set \"ssl.certificate.location\" and \
             \"ssl.key.location\" in [queue.kafka.options]"
        }
    } else if reason.contains("PLAINTEXT broker listener") || reason.contains("wrong version number") {
        "the Kafka broker does not speak TLS at this port: name its TLS port in queue.kafka.brokers, or set \
         \"security.protocol\" in [queue.kafka.options] to PLAINTEXT or SASL_PLAINTEXT"
    } else if code == Code::SSL || is_alert {
        "the Kafka broker and this client find no common TLS: look at \"security.protocol\" and ssl.* in \
         [queue.kafka.options]"
    } else {
        // An absent broker is waited for.
        return None;
    };
    Some(BrokerRefusal::new(Trouble::Access, words))
}

/// The message for a refused certificate, unless more is known.
const UNVERIFIED: &str = "the Kafka broker's certificate can't be verified: it is not of a CA that is trusted here (those of \
                          \"ssl.ca.location\" in [queue.kafka.options], or without it the system's), has expired, or is for \
                          another name than queue.kafka.brokers has";

/// Whether this client refuses the broker's certificate. librdkafka does not say why.
pub(super) fn is_of_certificate(reason: &str) -> bool {
    reason.contains("certificate verify failed")
}

/// Flaws of a broker's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    Expired,
    NotYetValid,
    OtherName,
    OtherAuthority,
}

/// The message for a certificate that this client refuses.
pub(super) fn of_certificate(flaw: Option<Flaw>) -> BrokerRefusal {
    let words = match flaw {
        Some(Flaw::Expired) => {
            "the Kafka broker's certificate has expired: renew it there (is this machine's clock right?)"
        }
        Some(Flaw::NotYetValid) => {
            "the Kafka broker's certificate is not valid yet: is this machine's clock right, or the broker's?"
        }
        Some(Flaw::OtherName) => {
            "the Kafka broker's certificate is for another name: write the one that it has in queue.kafka.brokers (and \
             the broker in advertised.listeners)"
        }
        Some(Flaw::OtherAuthority) => {
            "the Kafka broker's certificate is not of a CA that is trusted here: put the broker's CA into the file that \
             \"ssl.ca.location\" in [queue.kafka.options] names (without it the system's CAs are trusted)"
        }
        None => UNVERIFIED,
    };
    BrokerRefusal::new(Trouble::Access, words)
}

/// Kinds of refused commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The group is being rebalanced, or the topic is gone: it settles by itself.
    InPassing,
    /// A right is missing.
    Right(&'static str),
    /// Perhaps it is taken the next time.
    Perhaps,
}

/// The meaning of a refused commit.
pub(super) fn of_commit(code: Option<Code>) -> Refused {
    match code {
        Some(
            Code::RebalanceInProgress
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedMemberEpoch
            | Code::StaleMemberEpoch
            | Code::AssignmentLost
            | Code::UnknownTopicOrPartition
            | Code::NoOffset,
        ) => Refused::InPassing,
        Some(Code::TopicAuthorizationFailed) => Refused::Right(
            "this client may not commit for a topic of queue.kafka.topics: give it the right to (Read on the topic)",
        ),
        Some(Code::GroupAuthorizationFailed) => Refused::Right(
            "this client may not commit for queue.kafka.group_id: give it the right to (Read on the group)",
        ),
        _ => Refused::Perhaps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: ClientIdentity = ClientIdentity { has_tls: true, sasl: Sasl::None, has_certificate: false };
    const MUTUAL: ClientIdentity = ClientIdentity { has_certificate: true, ..TLS };
    const SASL: ClientIdentity = ClientIdentity { sasl: Sasl::Password, ..TLS };
    const PLAIN: ClientIdentity = ClientIdentity { has_tls: false, ..TLS };

    /// What librdkafka 2.12 says to Apache Kafka 4.3, and what must be in our words.
    #[test]
    fn each_mistake_of_tls_and_sasl_names_its_own_setting() {
        for (code, reason, identity, setting) in [
            (
                Code::SSL,
                "ssl://k:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: \
                 broker certificate could not be verified",
                TLS,
                "ssl.ca.location",
            ),
            (
                Code::BrokerTransportFailure,
                "Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42",
                TLS,
                "wants a certificate of this client: set \"ssl.certificate.location\"",
            ),
            (
                Code::BrokerTransportFailure,
                "Receive failed: error:0A000416:SSL routines::ssl/tls alert certificate unknown: SSL alert number 46",
                MUTUAL,
                "refuses this client's certificate: look at \"ssl.certificate.location\"",
            ),
            (
                Code::BrokerTransportFailure,
                "SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a PLAINTEXT broker \
                 listener?",
                TLS,
                "does not speak TLS",
            ),
            (
                Code::Authentication,
                "Authentication failed: Invalid username or password",
                SASL,
                "sasl.password",
            ),
            (
                Code::Authentication,
                "SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL mechanism",
                SASL,
                "sasl.mechanisms",
            ),
            (
                Code::Authentication,
                "Failed to acquire SASL OAUTHBEARER token",
                ClientIdentity { sasl: Sasl::Token, ..TLS },
                "queue.kafka.oauth_token_file",
            ),
            (Code::InconsistentGroupProtocol, "JoinGroup failed", PLAIN, "partition.assignment.strategy"),
            (Code::AutoOffsetReset, "fetch failed due to requested offset", PLAIN, "auto.offset.reset"),
            (
                Code::UnknownTopicOrPartition,
                "Subscribed topic not available: t: Broker: …",
                PLAIN,
                "queue.kafka.topics",
            ),
            (
                Code::InvalidMessage,
                "Fetch from broker 1 failed at offset 100 (leader epoch -1): Broker: Invalid message",
                PLAIN,
                "set the group's offset",
            ),
            (
                Code::BadCompression,
                "Decompression (codec 0x3) of message at 100 of 994 bytes failed: Local: Invalid compressed data",
                PLAIN,
                "stands still",
            ),
        ] {
            let words = of_error(code, reason, identity).unwrap().words;
            assert!(words.contains(setting), "{reason}: {words}");
        }
    }

    #[test]
    fn a_broker_that_is_away_is_no_refusal() {
        let reason = "k:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)";
        assert_eq!(of_error(Code::BrokerTransportFailure, reason, TLS), None);
        assert_eq!(of_error(Code::AllBrokersDown, "1/1 brokers are down", TLS), None);
    }

    #[test]
    fn plain_text_towards_tls_is_told_from_the_log() {
        let line = "k:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 5ms in state \
                    APIVERSION_QUERY)";
        assert!(of_log("FAIL", line, PLAIN).unwrap().words.contains("security.protocol"));
        assert_eq!(of_log("FAIL", line, TLS), None);
        let line = "k:1/bootstrap: Disconnected: SSL connection closed by peer (after 1ms in state UP)";
        assert!(of_log("FAIL", line, TLS).unwrap().words.contains("SASL"));
        assert_eq!(of_log("FAIL", line, SASL), None);
        let line = "k:1/1: Disconnected: connection closed by peer (after 72123ms in state UP)";
        assert_eq!(of_log("FAIL", line, PLAIN), None, "brokers close connections that are idle");
    }

    #[test]
    fn a_commit_that_somebody_has_to_mend_is_told_from_one_that_settles() {
        assert_eq!(of_commit(Some(Code::RebalanceInProgress)), Refused::InPassing);
        assert_eq!(of_commit(Some(Code::IllegalGeneration)), Refused::InPassing);
        assert!(matches!(of_commit(Some(Code::GroupAuthorizationFailed)), Refused::Right(_)));
        assert!(matches!(of_commit(Some(Code::TopicAuthorizationFailed)), Refused::Right(_)));
        assert_eq!(of_commit(Some(Code::NotCoordinator)), Refused::Perhaps);
        assert_eq!(of_commit(None), Refused::Perhaps);
    }
}
