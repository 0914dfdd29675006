//! How clients come to a broker: a listener for each kind of encryption and of proof who they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::certificates::Authority;

/// A listener. All are on the loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Listener {
    /// Neither encryption nor users.
    Plain,
    /// Clients are led there through a proxy, which can be cut.
    Proxied,
    /// TLS; clients need no certificate.
    Tls,
    /// TLS; clients need a certificate.
    Mutual,
    /// TLS with a certificate that has expired.
    Expired,
    /// TLS with a certificate for another host.
    Misnamed,
    /// Users with passwords (PLAIN, SCRAM), without encryption.
    Sasl,
    /// Users with passwords, with TLS.
    SaslTls,
    /// Tokens (OAUTHBEARER), without encryption.
    Token,
}

pub(crate) const LISTENERS: [Listener; 9] = [
    Listener::Plain,
    Listener::Proxied,
    Listener::Tls,
    Listener::Mutual,
    Listener::Expired,
    Listener::Misnamed,
    Listener::Sasl,
    Listener::SaslTls,
    Listener::Token,
];

/// Who may do everything, whatever the listener: nobody in particular, and these. What others may is up to ACLs.
pub(crate) const SUPER_USERS: [&str; 6] =
    ["ANONYMOUS", "CN=forwarder", "admin", "scrambled", "changing", "subject"];

/// How long a connection with a token may last before the client shows a new one. librdkafka does so after nine tenths of it: a
/// busy machine needs some of the rest.
const TOKEN_MILLISECONDS: u32 = 8_000;

impl Listener {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Proxied => "PROXIED",
            Self::Tls => "TLS",
            Self::Mutual => "MUTUAL",
            Self::Expired => "EXPIRED",
            Self::Misnamed => "MISNAMED",
            Self::Sasl => "SASL",
            Self::SaslTls => "SASLTLS",
            Self::Token => "TOKEN",
        }
    }

    fn protocol(self) -> &'static str {
        match self {
            Self::Plain | Self::Proxied => "PLAINTEXT",
            Self::Tls | Self::Mutual | Self::Expired | Self::Misnamed => "SSL",
            Self::Sasl | Self::Token => "SASL_PLAINTEXT",
            Self::SaslTls => "SASL_SSL",
        }
    }

    /// The name of the file with its certificate.
    pub(crate) fn certificate(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Misnamed => "misnamed",
            _ => "server",
        }
    }

    /// The name of a setting of this listener's alone.
    pub(super) fn setting(self, name: &str) -> String {
        format!("listener.name.{}.{name}", self.name().to_lowercase())
    }

    fn settings(self, authority: &Authority) -> String {
        let prefix = format!("listener.name.{}", self.name().to_lowercase());
        let mut settings = String::new();
        if self.protocol().ends_with("SSL") {
            let (certificate, ca) =
                (authority.path(&format!("{}.pem", self.certificate())), authority.path("ca.pem"));
            let wanted = if self == Self::Mutual { "required" } else { "none" };
            write!(
                settings,
                "{prefix}.ssl.keystore.type=PEM\n{prefix}.ssl.keystore.location={certificate}\n\
                 {prefix}.ssl.truststore.type=PEM\n{prefix}.ssl.truststore.location={ca}\n\
                 {prefix}.ssl.client.auth={wanted}\n"
            )
            .unwrap();
        }
        match self {
            Self::Sasl | Self::SaslTls => write!(
                settings,
                "{prefix}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
                 {prefix}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
                 user_admin=\"{}\" user_least=\"{}\" user_clerk=\"{}\" user_guest=\"{}\" user_novice=\"{}\" \
                 user_reader=\"{}\";\n\
                 {prefix}.scram-sha-256.sasl.jaas.config={SCRAM} required;\n\
                 {prefix}.scram-sha-512.sasl.jaas.config={SCRAM} required;\n",
                password("admin"),
                password("least"),
                password("clerk"),
                password("guest"),
                password("novice"),
                password("reader"),
            )
            .unwrap(),
            Self::Token => write!(
                settings,
                "{prefix}.sasl.enabled.mechanisms=OAUTHBEARER\n\
                 {prefix}.oauthbearer.sasl.jaas.config={OAUTH}.OAuthBearerLoginModule required \
                 unsecuredLoginStringClaim_sub=\"broker\";\n\
                 {prefix}.oauthbearer.sasl.server.callback.handler.class=\
                 {OAUTH}.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler\n\
                 {prefix}.oauthbearer.connections.max.reauth.ms={TOKEN_MILLISECONDS}\n"
            )
            .unwrap(),
            _ => {}
        }
        settings
    }
}

const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";
const OAUTH: &str = "org.apache.kafka.common.security.oauthbearer";

/// The password of a user, until a test changes it.
pub(crate) fn password(user: &str) -> String {
    format!("{user}-secret")
}

/// The users of SCRAM, as the storage is told of them.
pub(super) fn scram_users() -> Vec<String> {
    let both = |user: &str| {
        ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .map(|hash| format!("{hash}=[name={user},password={}]", password(user)))
    };
    ["scrambled", "changing"].map(both).concat()
}

/// A node of several, that knows no users: each has a port for clients and one for controllers.
pub(super) fn plain(id: usize, ports: &[(u16, u16)]) -> String {
    let (port, controller) = ports[id - 1];
    let voters: Vec<String> =
        (1..).zip(ports).map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}")).collect();
    let copies = ports.len();
    format!(
        "controller.quorum.voters={}\n\
         listeners=PLAIN://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAIN://127.0.0.1:{port}\n\
         listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         offsets.topic.replication.factor={copies}\n\
         transaction.state.log.replication.factor={copies}\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor={copies}\n",
        voters.join(",")
    )
}

/// A node alone, with every listener. `advertised` is where clients of the proxied one are led.
pub(super) fn all(
    ports: &BTreeMap<Listener, u16>,
    controller: u16,
    advertised: u16,
    authority: &Authority,
) -> String {
    let each = |of: &dyn Fn(Listener) -> String| LISTENERS.map(of).join(",");
    let listeners = each(&|listener| format!("{}://127.0.0.1:{}", listener.name(), ports[&listener]));
    let shown = each(&|listener| {
        let port = if listener == Listener::Proxied { advertised } else { ports[&listener] };
        format!("{}://127.0.0.1:{port}", listener.name())
    });
    let protocols = each(&|listener| format!("{}:{}", listener.name(), listener.protocol()));
    let own: String = LISTENERS.iter().map(|listener| listener.settings(authority)).collect();
    let users = SUPER_USERS.map(|user| format!("User:{user}")).join(";");
    format!(
        "controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners={shown}\n\
         listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users={users}\n\
         {own}"
    )
}
