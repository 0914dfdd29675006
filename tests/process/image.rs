//! The Dockerfile's steps, carried out without an engine: what is copied is all that cargo needs, and the image as a
//! directory that holds nothing but what the image would hold, with the process confined to it and without privileges.

use std::fs;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::children::{self, Guard};
use crate::support::ports;
use tempfile::TempDir;

/// The user of the image.
const USER: u32 = 65_532;

/// What a binary that was built for the tests may be linked with. The image's own is static; `make image` tries that one.
const LIBRARIES: [&str; 5] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0"];
/// And where `tests/run` had Debian's OpenSSL taken, instead of building what is shipped: with what that is linked with.
/// Who runs the tests need not say so again.
const IS_OPENSSL_DEBIANS: bool = option_env!("OPENSSL_NO_VENDOR").is_some();
const OPENSSL: [&str; 4] = ["libssl.so.3", "libcrypto.so.3", "libz.so.1", "libzstd.so.1"];

const BINARY: &str = "/usr/local/bin/braze-datadog";

const DRY: &str =
    "[connections.acme]\nsite = \"EU1\"\napi_key = \"0123456789abcdef0123456789abcdef\"\ndry_run = true\n";

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What the Dockerfile copies from here before it builds.
fn copied() -> Vec<String> {
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let (before, _) = dockerfile.split_once("\nRUN ").unwrap();
    let copies = before.lines().filter_map(|line| line.strip_prefix("COPY "));
    copies
        .flat_map(|copy| {
            let mut names: Vec<String> = copy.split_whitespace().map(ToOwned::to_owned).collect();
            names.pop();
            names
        })
        .collect()
}

#[test]
fn what_is_copied_is_a_workspace_that_cargo_takes() {
    let directory = tempfile::tempdir().unwrap();
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command
            .args(arguments)
            .args(["--locked", "--offline"])
            .current_dir(directory.path())
            .output()
            .unwrap()
    };
    let has_the_binary = || {
        let described = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
        // Of this system alone: crates for others have not been downloaded.
        let resolved = cargo(&[
            "tree",
            "--all-features",
            "--edges",
            "normal,build",
            "--target",
            "x86_64-unknown-linux-gnu",
        ]);
        let text = String::from_utf8_lossy(&described.stdout);
        described.status.success()
            && resolved.status.success()
            && text.contains(r#""kind":["bin"],"crate_types":["bin"],"name":"braze-datadog""#)
    };
    for name in copied() {
        assert!(!has_the_binary(), "cargo builds it without {name}");
        run(Command::new("cp").arg("-r").arg(root().join(name)).arg(directory.path()));
    }
    assert!(has_the_binary());
}

/// The libraries that a binary is linked with, and where they are.
fn libraries(binary: &Path) -> Vec<(String, PathBuf)> {
    let output = run(Command::new("ldd").arg(binary));
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter_map(|words| match words[..] {
            [name, "=>", path, _] => Some((name.to_owned(), PathBuf::from(path))),
            // The loader.
            [path, _] if path.starts_with('/') => Some((path.to_owned(), PathBuf::from(path))),
            _ => None,
        })
        .collect()
}

fn put(image: &Path, from: &Path, to: &str) {
    let to = image.join(to.trim_start_matches('/'));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

/// The last stage of the Dockerfile as a directory; `configuration` is mounted, in effect.
fn image(configuration: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let image = directory.path();
    let built = Path::new(env!("CARGO_BIN_EXE_braze-datadog"));
    for (name, path) in libraries(built) {
        assert!(
            path.to_str().unwrap().contains("/ld-linux")
                || LIBRARIES.contains(&name.as_str())
                || IS_OPENSSL_DEBIANS && OPENSSL.contains(&name.as_str()),
            "a static binary would need {name}"
        );
        put(image, &path, path.to_str().unwrap());
    }
    put(image, built, BINARY);
    put(image, Path::new("/etc/ssl/certs/ca-certificates.crt"), "/etc/ssl/certs/ca-certificates.crt");
    let etc = image.join("etc/braze-datadog");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("braze-datadog.toml"), configuration).unwrap();
    let state = image.join("var/lib/braze-datadog");
    fs::create_dir_all(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    if is_root() {
        chown(&state, Some(USER), Some(USER)).unwrap();
    }
    directory
}

pub(crate) fn is_root() -> bool {
    run(Command::new("id").arg("-u")).stdout == b"0\n"
}

/// A command inside the image, as its user; whoever is not root is a user of a namespace of his own.
fn inside(image: &Path, arguments: &[&str], admin: &str) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("chroot");
        command.arg(format!("--userspec={USER}:{USER}"));
        command
    } else {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "chroot"]);
        command
    };
    command.arg(image).arg(BINARY).args(arguments);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // The image says 0.0.0.0:8081.
    command.env("BRAZE_DATADOG__ADMIN__LISTEN", admin).stdin(Stdio::null());
    command
}

/// Runs the image's own command.
fn start(image: &Path, admin: &str) -> Guard {
    let mut command = inside(image, &["run"], admin);
    command.stderr(Stdio::null());
    Guard::over(command)
}

fn free_address() -> String {
    let [address] = ports::free();
    address.to_string()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what} took too long");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_image_holds_all_that_the_process_needs_and_it_runs_there_without_privileges() {
    let admin = free_address();
    let image = image(DRY);
    let healthy = || inside(image.path(), &["health"], &admin).output().unwrap();
    assert!(!healthy().status.success(), "healthy before it runs");

    let mut running = start(image.path(), &admin);
    let id = until("the start", || {
        assert_eq!(running.process().try_wait().unwrap(), None, "the process ended at its start");
        healthy().status.success().then(|| running.process().id())
    });
    // With --config there is no file where the health check would look for one.
    let file = image.path().join("etc/braze-datadog/braze-datadog.toml");
    fs::rename(&file, file.with_extension("elsewhere")).unwrap();
    let asked = healthy();
    assert!(asked.status.success(), "it needs no file: the image says where the port is: {asked:?}");
    let owner = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let user = owner.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    if is_root() {
        assert!(user.split_whitespace().all(|id| id == USER.to_string()), "{user}");
    }
    let queue = image.path().join("var/lib/braze-datadog/queue");
    assert!(queue.read_dir().unwrap().next().is_some(), "the queue is not on the volume");

    run(Command::new("/bin/kill").args(["-TERM", &id.to_string()]));
    let status = until("the stop", || running.process().try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(!healthy().status.success(), "healthy after its end");
}

/// A listener for one broker of Kafka, whose certificate `authority` has signed, and what becomes of the first handshake.
fn encrypted_broker(authority: &rcgen::Issuer<'_, rcgen::KeyPair>) -> (String, JoinHandle<io::Result<()>>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, authority).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let settings =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept()?;
        let mut connection = rustls::ServerConnection::new(Arc::new(settings)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        // Who does not trust the certificate says so at last, and asks for nothing.
        rustls::Stream::new(&mut connection, &mut socket).read_exact(&mut [0])
    });
    (address, accepted)
}

#[test]
fn in_the_image_kafka_trusts_the_authorities_that_lie_there() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    let authority = parameters.self_signed(&key).unwrap().pem();
    let (broker, accepted) = encrypted_broker(&rcgen::Issuer::new(parameters, key));
    let kafka = format!(
        "[queue]\nkind = \"kafka\"\n[queue.kafka]\nbrokers = [\"{broker}\"]\n[queue.kafka.options]\n\
         \"security.protocol\" = \"SSL\"\n{DRY}"
    );
    let image = image(&kafka);
    fs::write(image.path().join("etc/ssl/certs/ca-certificates.crt"), authority).unwrap();
    let _running = start(image.path(), &free_address());
    until("the handshake", || accepted.is_finished().then_some(()));
    accepted.join().unwrap().unwrap();
}

#[test]
fn a_volume_that_it_may_not_write_to_is_named() {
    let image = image("[connections.acme]\nsite = \"EU1\"\napi_key = \"k\"\ndry_run = true\n");
    let state = image.path().join("var/lib/braze-datadog");
    // Root of a namespace writes wherever its user does, so that the directory is made a file instead.
    fs::remove_dir(&state).unwrap();
    fs::write(&state, "").unwrap();
    let output = inside(image.path(), &["run"], &free_address()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/var/lib/braze-datadog"), "{said}");
}

/// Not a test by itself: the process that is killed.
#[test]
fn the_image_runs_until_the_kill() {
    if children::is_to_be_killed() {
        let (image, admin) = (image(DRY), free_address());
        let _running = start(image.path(), &admin);
        let healthy = || inside(image.path(), &["health"], &admin).output().unwrap();
        until("the start", || healthy().status.success().then_some(()));
        children::wait_for_the_kill();
    }
}

#[test]
fn what_runs_in_an_image_ends_with_the_test_process() {
    children::assert_none_is_left("image::the_image_runs_until_the_kill", &["braze-datadog"]);
}
