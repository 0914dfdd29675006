//! Kafka's own tools, each a JVM of half a second; what the client library can do, it does (see [`super::Cluster`]).

use super::Cluster;
use super::distribution::{distribution, run};

/// A tool.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tool {
    /// `kafka-acls.sh`
    Acls,
    /// `kafka-configs.sh`
    Configs,
    /// `kafka-consumer-groups.sh`
    Groups,
}

impl Cluster {
    /// Runs a tool with these arguments beside `--bootstrap-server`; what it printed.
    pub(crate) fn admin(&self, tool: Tool, arguments: &[&str]) -> String {
        let class = match tool {
            Tool::Acls => "org.apache.kafka.tools.AclCommand",
            Tool::Configs => "kafka.admin.ConfigCommand",
            Tool::Groups => "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        };
        let mut java = distribution().java(&["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"], class);
        run(java.args(["--bootstrap-server", &self.addresses()[0]]).args(arguments))
    }

    /// Gives a user a right (`Read`, `Describe`, …) to a topic or a group, or takes it away.
    pub(crate) fn acl(&self, change: &str, user: &str, right: &str, resource: [&str; 2]) {
        let principal = format!("User:{user}");
        let [kind, name] = resource;
        self.admin(
            Tool::Acls,
            &[change, "--force", "--allow-principal", &principal, "--operation", right, kind, name],
        );
    }

    /// Sets the password of a SCRAM user.
    pub(crate) fn set_password(&self, user: &str, hash: &str, password: &str) {
        let change = format!("{hash}=[password={password}]");
        self.admin(
            Tool::Configs,
            &["--alter", "--entity-type", "users", "--entity-name", user, "--add-config", &change],
        );
    }
}
