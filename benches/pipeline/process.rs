//! The real binary, watched from outside.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cost::process_cpu;

/// A start takes milliseconds; beyond this the bench gives up.
const START_MAX: Duration = Duration::from_secs(20);

/// Reading what is there takes seconds; beyond this the bench gives up.
const READ_MAX: Duration = Duration::from_mins(1);

/// A configuration on its way, and the directory of its process.
pub(crate) struct Configuration {
    home: TempDir,
    text: String,
    pub(crate) push: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Configuration {
    /// Push and admin on free ports, a flush every second, `more` lines of settings, no connection.
    pub(crate) fn new(directory: &Path, more: &str) -> Result<Self, Box<dyn Error>> {
        let home = tempfile::tempdir_in(directory)?;
        let [push, admin] = [free_address()?, free_address()?];
        let text = format!(
            "push.listen = '{push}'\nadmin.listen = '{admin}'\nflush.interval = '1s'\n\
             log.level = 'error'\nqueue.embedded.directory = '{}'\n\
             history.directory = '{}'\n{more}",
            home.path().join("queue").display(),
            home.path().join("history").display()
        );
        Ok(Self { home, text, push, admin })
    }

    /// Adds a connection for one app group, or for all if it is empty.
    pub(crate) fn connection(&mut self, name: &str, intake: SocketAddr, app_group: &str) {
        let groups = if app_group.is_empty() { String::new() } else { format!("'{app_group}'") };
        // Writing into a String can't fail.
        let _ = write!(
            self.text,
            "[connections.{name}]\nurl = 'http://{intake}'\napi_key = 'none'\napp_group_ids = [{groups}]\n"
        );
    }

    /// Starts `run` and waits until it is ready; says how long that took.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<(Process, Duration), Box<dyn Error>> {
        let path = self.home.path().join("braze-datadog.toml");
        fs::write(&path, &self.text)?;
        let log = self.home.path().join("log");
        let (out, started) = (fs::File::create(&log)?, Instant::now());
        let child = Command::new(env!("CARGO_BIN_EXE_braze-datadog"))
            .args(["run", "--config"])
            .arg(path)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()?;
        let mut process = Process { child, log };
        while !is_ready(self.admin) {
            process.goes_on(started, START_MAX)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((process, started.elapsed()))
    }
}

/// A running process; it is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// As `/proc` names it.
    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// User and system time so far, in hundredths of a second.
    pub(crate) fn cpu(&self) -> Result<Duration, Box<dyn Error>> {
        process_cpu(&self.id())
    }

    /// The time that its threads have had on a CPU, exact; those that have ended are not in it.
    pub(crate) fn cpu_of_threads(&self) -> Result<Duration, Box<dyn Error>> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            sum += text.split_whitespace().next().ok_or("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Fails with what it has said when it has ended, or when what is waited for takes longer than this.
    fn goes_on(&mut self, since: Instant, most: Duration) -> Result<(), Box<dyn Error>> {
        let ended = self.child.try_wait()?;
        if ended.is_none() && since.elapsed() < most {
            return Ok(());
        }
        let how = ended
            .map_or_else(|| format!("is not done after {most:?}"), |status| format!("ended with {status}"));
        Err(format!("the forwarder {how}: {}", fs::read_to_string(&self.log)?).into())
    }

    /// Waits until it has read so many bytes, from files and sockets alike. Of one that has ended the system says something, too.
    pub(crate) fn wait_for_bytes(&mut self, bytes: u64) -> Result<(), Box<dyn Error>> {
        let since = Instant::now();
        loop {
            self.goes_on(since, READ_MAX)?;
            let text = fs::read_to_string(format!("/proc/{}/io", self.id()))?;
            let read = text.lines().find_map(|line| line.strip_prefix("rchar: ")).ok_or("no rchar")?;
            if read.parse::<u64>()? >= bytes {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn is_ready(admin: SocketAddr) -> bool {
    get(admin, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// What the admin port answers, its head included.
pub(crate) fn get(admin: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
