//! Stores for the tests: a directory, and servers from the registries, installed below cargo's target directory and started on
//! free ports of the loopback. They end with the test process.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde_json::{Value, json};

use crate::support::{children, ports};

/// The server of S3 and SQS: <https://docs.getmoto.org/en/latest/docs/server_mode.html>.
const MOTO: &str = "moto[s3,sqs,server]==5.2.5";
/// Microsoft's own server of Blob Storage.
const AZURITE: &str = "azurite@3.37.0";
/// Its account, which is the same everywhere:
/// <https://learn.microsoft.com/azure/storage/common/storage-connect-azurite>.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server of Google Cloud Storage's two protocols: <https://github.com/fsouza/fake-gcs-server>.
const FAKE_GCS: &str = "github.com/fsouza/fake-gcs-server@v1.56.1";

/// How long a server may take to start, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// The name of every bucket.
const BUCKET: &str = "events";

enum Kind {
    Directory(PathBuf),
    S3,
    Azure,
    Google,
}

pub(super) struct Server {
    kind: Kind,
    address: SocketAddr,
    child: Option<Child>,
    /// What it keeps.
    _home: tempfile::TempDir,
}

impl Server {
    pub(super) fn directory(directory: &Path) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            kind: Kind::Directory(directory.to_owned()),
            address,
            child: None,
            _home: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn s3() -> Self {
        let packages = installed("moto-s3-sqs", |into| {
            let into = into.to_str().unwrap().to_owned();
            command(&[
                "python3",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--root-user-action",
                "ignore",
                "--disable-pip-version-check",
                // Of what is installed a tenth is run.
                "--no-compile",
                "--target",
                &into,
                MOTO,
            ])
        });
        Self::start(Kind::S3, |address, _| {
            let mut server = children::command("python3");
            server.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()]);
            server.env("PYTHONPATH", packages);
            server
        })
    }

    pub(super) fn azure() -> Self {
        let packages = installed("azurite", |into| {
            command(&[
                "npm",
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--prefix",
                into.to_str().unwrap(),
                AZURITE,
            ])
        });
        Self::start(Kind::Azure, |address, home| {
            let mut server = children::command("node");
            server.arg(packages.join("node_modules/azurite/dist/src/blob/main.js"));
            server.args(["--blobHost", "127.0.0.1", "--blobPort", &address.port().to_string()]);
            server.args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location"]).arg(home);
            server
        })
    }

    pub(super) fn google() -> Self {
        let packages = installed("fake-gcs-server", |into| {
            // It is built for longer than it runs: unoptimised, in two thirds of the CPU time.
            let mut install = command(&["go", "install", "-gcflags=all=-N -l", "-ldflags=-s -w", FAKE_GCS]);
            install.env("GOBIN", into).env("GOFLAGS", "-trimpath");
            install
        });
        Self::start(Kind::Google, |address, _| {
            let mut server = children::command(packages.join("fake-gcs-server"));
            server.args(["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"]);
            server.args(["-port", &address.port().to_string(), "-public-host", &address.to_string()]);
            server
        })
    }

    fn start(kind: Kind, of: impl FnOnce(SocketAddr, &Path) -> Command) -> Self {
        let home = tempfile::tempdir().unwrap();
        let [address] = ports::free();
        let log = home.path().join("log");
        let mut server = of(address, home.path());
        server.stdout(File::create(&log).unwrap()).stderr(File::create(home.path().join("errors")).unwrap());
        let mut child = children::spawn(server).unwrap();
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = child.try_wait().unwrap().map(|status| status.to_string());
            let errors = fs::read_to_string(home.path().join("errors")).unwrap();
            assert_eq!(ended, None, "the server of the bucket ended at its start: {errors}");
            assert!(begun.elapsed() < PATIENCE, "the server of the bucket does not start: {errors}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { kind, address, child: Some(child), _home: home }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it answers under its own name alone.
    pub(super) fn is_known_by_name(&self) -> bool {
        matches!(self.kind, Kind::Google)
    }

    /// The URL and the options of a forwarder that comes to it by another address.
    pub(super) fn settings(&self, by: SocketAddr) -> (String, Vec<(&'static str, String)>) {
        let plain = ("allow_http", "true".to_owned());
        match &self.kind {
            Kind::Directory(directory) => (format!("file://{}/", directory.display()), Vec::new()),
            Kind::S3 => {
                let options = vec![
                    plain,
                    ("endpoint", format!("http://{by}")),
                    ("region", "eu-central-1".to_owned()),
                    ("access_key_id", "key".to_owned()),
                    ("secret_access_key", "secret".to_owned()),
                ];
                (format!("s3://{BUCKET}/currents/"), options)
            }
            Kind::Azure => {
                let options = vec![
                    plain,
                    ("endpoint", format!("http://{by}/{ACCOUNT}")),
                    ("account_name", ACCOUNT.to_owned()),
                    ("access_key", ACCOUNT_KEY.to_owned()),
                ];
                (format!("az://{BUCKET}/currents/"), options)
            }
            Kind::Google => {
                let options =
                    vec![plain, ("base_url", format!("http://{by}")), ("skip_signature", "true".to_owned())];
                (format!("gs://{BUCKET}/currents/"), options)
            }
        }
    }

    /// Makes the bucket.
    pub(super) async fn make_bucket(&self) {
        // A second installation in this process fails, and that is fine: it is the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = crate::support::client(None);
        let request = match &self.kind {
            Kind::Directory(_) => return,
            Kind::Azure => return self.make_container(),
            Kind::S3 => client.put(format!("http://{}/{BUCKET}", self.address)).body(
                "<CreateBucketConfiguration><LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>",
            ),
            Kind::Google => client
                .post(format!("http://{}/storage/v1/b?project=p", self.address))
                .header("content-type", "application/json")
                .body(format!("{{\"name\":\"{BUCKET}\"}}")),
        };
        assert!(request.send().await.unwrap().status().is_success());
    }

    /// Makes a queue that is told of each new object of the bucket. Returns its URL.
    pub(super) async fn notify(&self) -> String {
        self.ask_sqs("CreateQueue", &json!({"QueueName": "notifications"})).await;
        let configuration = "<NotificationConfiguration><QueueConfiguration><Queue>arn:aws:sqs:eu-central-1:123456789012:notifications</Queue>\
            <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>";
        let request = crate::support::client(None)
            .put(format!("http://{}/{BUCKET}?notification", self.address))
            .header("authorization", signature("s3"))
            .body(configuration);
        assert!(request.send().await.unwrap().status().is_success());
        format!("http://{}/123456789012/notifications", self.address)
    }

    /// Asks SQS, in its JSON protocol.
    pub(super) async fn ask_sqs(&self, action: &str, asked: &Value) -> Value {
        let request = crate::support::client(None)
            .post(format!("http://{}/", self.address))
            .header("authorization", signature("sqs"))
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("AmazonSQS.{action}"))
            .body(asked.to_string());
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{action}: {}", answer.text().await.unwrap());
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null)
    }

    /// Writes an object.
    pub(super) async fn put(&self, path: &str, content: Vec<u8>) {
        let (url, options) = self.settings(self.address);
        let store: Arc<dyn ObjectStore> = match &self.kind {
            Kind::Directory(directory) => Arc::new(LocalFileSystem::new_with_prefix(directory).unwrap()),
            Kind::S3 => {
                let builder = AmazonS3Builder::new().with_url(url);
                let builder = options
                    .into_iter()
                    .fold(builder, |builder, (key, value)| builder.with_config(key.parse().unwrap(), value));
                Arc::new(builder.build().unwrap())
            }
            Kind::Azure => {
                let builder = MicrosoftAzureBuilder::new().with_url(url);
                let builder = options
                    .into_iter()
                    .fold(builder, |builder, (key, value)| builder.with_config(key.parse().unwrap(), value));
                Arc::new(builder.build().unwrap())
            }
            // Of the two protocols of Google's this server takes new objects by one alone, which the client does not speak.
            Kind::Google => {
                let name = path.replace('=', "%3D");
                let url = format!(
                    "http://{}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}",
                    self.address
                );
                let upload = crate::support::client(None).post(url).body(content);
                assert!(upload.send().await.unwrap().status().is_success());
                return;
            }
        };
        store.put(&object_store::path::Path::from(path), content.into()).await.unwrap();
    }

    /// `Create Container`, signed as
    /// <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key> says; no client makes containers here.
    fn make_container(&self) {
        let script = format!(
            "const date = new Date().toUTCString();
            const signed = ['PUT', '', '', '', '', '', '', '', '', '', '', '', `x-ms-date:${{date}}`, 'x-ms-version:2021-08-06',
                '/{ACCOUNT}/{ACCOUNT}/{BUCKET}', 'restype:container'].join('\\n');
            const key = Buffer.from('{ACCOUNT_KEY}', 'base64');
            const signature = require('crypto').createHmac('sha256', key).update(signed, 'utf8').digest('base64');
            const request = require('http').request('http://{}/{ACCOUNT}/{BUCKET}?restype=container', {{ method: 'PUT', headers: {{
                'x-ms-date': date, 'x-ms-version': '2021-08-06', 'content-length': 0,
                authorization: `SharedKey {ACCOUNT}:${{signature}}` }} }}, (answer) => {{
                    console.log(answer.statusCode); process.exit(answer.statusCode === 201 ? 0 : 1); }});
            request.end();",
            self.address
        );
        run(&mut command(&["node", "-e", &script]));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where a package is; installs it where it is missing. Tests that ask at the same time, of other processes too, wait for the
/// first one.
fn installed(name: &str, install: impl FnOnce(&Path) -> Command) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("buckets");
    fs::create_dir_all(&directory).unwrap();
    let lock = File::create(directory.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let packages = directory.join(name);
    if !packages.exists() {
        let work = tempfile::tempdir_in(&directory).unwrap();
        run(&mut install(work.path()));
        // Under its name it is whole: what is cut off leaves nothing there.
        fs::rename(work.keep(), &packages).unwrap();
    }
    packages
}

/// What tells the server which of its services is asked; it holds no signature against it.
fn signature(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=key/20261127/eu-central-1/{service}/aws4_request, SignedHeaders=host, Signature=00"
    )
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    let output = command.output();
    let output = output.unwrap_or_else(|error| {
        panic!("a server of buckets for the tests: {shown} could not be run: {error}; `make tools` installs what is missing")
    });
    assert!(
        output.status.success(),
        "a server of buckets for the tests: {shown} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
