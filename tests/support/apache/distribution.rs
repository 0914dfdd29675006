//! Apache Kafka's own jars: fetched from Maven Central once, checked, and kept below cargo's target directory, with
//! an archive of their classes that halves each start of a JVM.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::children;
use crate::support::fetched::{self, Fetched};

/// The release that the tests run against.
const VERSION: &str = "4.3.1";

/// All jars that come with it: `sha256sum *.jar | sha256sum` in their folder.
const JARS_SHA256: &str = "c3ab63209f2582ea037a108aee3ae58bd3b639a4816f72600e678629e15f8369";

const FETCH: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies";

const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId>
  <artifactId>broker</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.3.1</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>4.3.1</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"#;

/// The archive's name in the folder.
const ARCHIVE: &str = "classes.jsa";

/// Starts fast, and stays small.
const JVM: [&str; 4] = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// The jars, in a folder.
pub(super) struct Distribution {
    folder: PathBuf,
    /// Relative to the folder, so that the archive fits wherever the folder is moved.
    classpath: String,
}

/// The distribution; fetches it where it is missing. Tests that ask at the same time, of other processes too, wait for
/// the first one.
pub(super) fn distribution() -> &'static Distribution {
    static FETCHED: Fetched<Distribution> = Fetched::new();
    FETCHED.get(|| {
        let root = root();
        fs::create_dir_all(&root).unwrap();
        let lock = File::create(root.join("lock")).unwrap();
        lock.lock().unwrap();
        let folder = root.join(format!("kafka-{VERSION}-{}", &JARS_SHA256[..16]));
        if !folder.exists() {
            let work = tempfile::tempdir_in(&root).unwrap();
            // Under its name it is whole: a download that is cut off leaves nothing there.
            fs::rename(fetch(work.path()), &folder).unwrap();
        }
        let found = Distribution { classpath: classpath(&folder), folder };
        if !found.folder.join(ARCHIVE).exists() {
            found.archive();
        }
        found
    })
}

/// Where everything about the broker is kept.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("apache")
}

impl Distribution {
    /// A JVM with these options, about to run a class of the distribution's.
    pub(super) fn java(&self, options: &[&str], class: &str) -> Command {
        let mut java = self.bare();
        java.arg(format!("-XX:SharedArchiveFile={ARCHIVE}")).args(options).arg(class);
        java
    }

    pub(super) fn bare(&self) -> Command {
        let mut java = children::command("java");
        java.args(JVM)
            .args(["-cp", &self.classpath])
            .current_dir(&self.folder)
            .env_remove("JAVA_TOOL_OPTIONS")
            .stdin(std::process::Stdio::null());
        java
    }

    /// Runs a broker and a command once, and has the JVM keep what classes they took.
    fn archive(&self) {
        let work = tempfile::tempdir_in(root()).unwrap();
        let written = work.path().join(ARCHIVE);
        let mut java = self.bare();
        java.arg(format!("-XX:ArchiveClassesAtExit={}", written.display()));
        super::node::run_once(java, work.path(), self);
        fs::rename(written, self.folder.join(ARCHIVE)).unwrap();
    }
}

fn fetch(work: &Path) -> PathBuf {
    let jars = work.join("jars");
    fs::write(work.join("pom.xml"), POM).unwrap();
    let into = format!("-DoutputDirectory={}", jars.display());
    let mut maven = fetched::client("mvn");
    run(maven.args(["--batch-mode", "--quiet", FETCH, &into]).current_dir(work));
    let sum = run(Command::new("sh").args(["-c", "sha256sum *.jar | sha256sum"]).current_dir(&jars));
    assert!(
        sum.starts_with(JARS_SHA256),
        "Apache Kafka {VERSION} is not the one that these tests know: {sum}"
    );
    jars
}

fn classpath(folder: &Path) -> String {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut jars: Vec<String> = names
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "jar"))
        .collect();
    jars.sort();
    jars.join(":")
}

/// Runs a command to its end; what it printed.
pub(super) fn run(command: &mut Command) -> String {
    let shown = format!("{} …", command.get_program().display());
    let ended = command.output();
    let Output { status, stdout, stderr } = ended.unwrap_or_else(|error| {
        panic!("Apache Kafka for the tests: `{shown}` could not be run: {error}; `make tools` installs what is missing")
    });
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(
        status.success(),
        "Apache Kafka for the tests: {command:?} ended with {status}: {stdout}{stderr}"
    );
    stdout.into_owned()
}
