//! Processes that tests start end with the test process, whatever way it ends: by a panic, by `kill -9` of it alone. The
//! system sees to it (`PR_SET_PDEATHSIG`, by `setpriv` of util-linux), not a `Drop`, which a process that is killed has not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Tells the process that is to be killed from a run of all tests, and what it has started from all else.
const MARK: &str = "TESTS_THAT_ARE_KILLED";

/// What is printed once everything runs.
const READY: &str = "@everything runs";

/// How long what is left may take to end, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program that the system kills when the test process is gone. What it starts itself it must look after, and a change
/// of its user takes the promise away: see [`Guard`].
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Starts it from a thread that lasts: the system means the thread that has started a process, and a test's own ends with
/// the test.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, SyncSender<io::Result<Child>>);
    static LAUNCHER: LazyLock<SyncSender<Order>> = LazyLock::new(|| {
        let (order, orders) = sync_channel::<Order>(1);
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                answer.send(command.spawn()).unwrap();
            }
        });
        order
    });
    let (answer, child) = sync_channel(1);
    LAUNCHER.send((command, answer)).unwrap();
    child.recv().unwrap()
}

/// Writes a script that starts a program in this way, for those who start it themselves.
pub(crate) fn script(at: &Path, program: &str) -> PathBuf {
    let mut text = tempfile::tempfile().unwrap();
    writeln!(text, "#!/bin/sh\nexec setpriv --pdeathsig KILL {program} \"$@\"").unwrap();
    text.rewind().unwrap();
    install(Path::new("/dev/stdin"), text.into(), at);
    at.to_owned()
}

/// Copies a program. A process of its own writes it: what another test starts meanwhile would for a moment have this one's file
/// open, too, and the system executes nothing that somebody may write to ("Text file busy").
pub(crate) fn install(program: &Path, input: Stdio, at: &Path) {
    let copied =
        Command::new("install").args(["--mode", "755"]).arg(program).arg(at).stdin(input).output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
}

/// Kills a process that has changed its user when it is dropped, or when the test process is gone: a shell waits for the end
/// of a pipe that only the test process holds.
pub(crate) struct Guard {
    process: Child,
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    pub(crate) fn over(command: Command) -> Self {
        let process = spawn(command).unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "read -r over || kill -KILL $0"]).arg(process.id().to_string());
        let mut shell = shell.stdin(Stdio::piped()).spawn().unwrap();
        let pipe = shell.stdin.take();
        Self { process, shell, pipe }
    }

    pub(crate) fn process(&mut self) -> &mut Child {
        &mut self.process
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself; the shell, too.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.pipe.take().map(|mut pipe| pipe.write_all(b"over\n"));
        let _ = self.shell.wait();
    }
}

/// Whether this process is the one that is killed; a test that starts what is to be gone does nothing otherwise.
pub(crate) fn is_to_be_killed() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Says that everything runs, and waits for the kill.
pub(crate) fn wait_for_the_kill() -> ! {
    // One line in one write: libtest prints, too.
    io::stdout().write_all(format!("\n{READY}\n").as_bytes()).unwrap();
    loop {
        std::thread::park();
    }
}

/// Runs a test of this binary that starts processes, kills it alone with SIGKILL, and stops the test unless all that it had
/// started, and all that they had, is gone. `names` must have been among them.
pub(crate) fn assert_none_is_left(test: &str, names: &[&str]) {
    let mark = format!("{}-{test}", std::process::id());
    // Who is killed leaves his files, too.
    let temporary = tempfile::tempdir().unwrap();
    let mut killed = command(std::env::current_exe().unwrap());
    killed
        .args(["--exact", test, "--nocapture"])
        .env(MARK, &mark)
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut killed = spawn(killed).unwrap();
    let mut said = BufReader::new(killed.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line == READY), "{test} ended before everything ran");
    let started = descendants(killed.id(), &mark);
    killed.kill().unwrap();
    killed.wait().unwrap();
    for name in names {
        assert!(started.values().any(|other| other.starts_with(name)), "no {name} among {started:?}");
    }
    assert_gone(&started);
    temporary.close().unwrap();
}

/// Waits until none of them runs any more.
pub(crate) fn assert_gone(started: &Processes) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let alive = processes();
        let left: BTreeMap<_, _> =
            started.iter().filter(|(process, _)| alive.contains_key(process)).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < give_up, "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes by their names.
pub(crate) type Processes = BTreeMap<Process, String>;

/// A process, told from a later one with the same number by when it started.
pub(crate) type Process = (u32, u64);

/// Everything below a process by its name, and whatever has the mark in its environment: a daemon is below nobody.
pub(crate) fn descendants(of: u32, mark: &str) -> Processes {
    let all = processes();
    let mut below = BTreeSet::from([of]);
    loop {
        let children = all.iter().filter(|(_, (_, parent))| below.contains(parent)).map(|((id, _), _)| *id);
        let found: BTreeSet<u32> = children.chain(below.iter().copied()).collect();
        if found == below {
            break;
        }
        below = found;
    }
    let mark = format!("{MARK}={mark}").into_bytes();
    let has_mark = |id: u32| {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    };
    let descendants = all.into_iter().filter(|((id, _), _)| below.contains(id) || has_mark(*id));
    descendants.filter(|((id, _), _)| *id != of).map(|(process, (name, _))| (process, name)).collect()
}

/// Every process that runs: its name, and its parent's number. Source: `proc_pid_stat(5)`.
fn processes() -> BTreeMap<Process, (String, u32)> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("stat")).ok());
    let parsed = stats.filter_map(|stat| {
        let (id, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let (condition, parent, start) = (fields[0], fields[1].parse().ok()?, fields[19].parse().ok()?);
        let runs = !matches!(condition, "Z" | "X");
        runs.then(|| ((id.parse().unwrap(), start), (name.to_owned(), parent)))
    });
    parsed.collect()
}
