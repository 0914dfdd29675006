//! The systemd unit, held against systemd itself. Without `systemd-analyze` the tests fail: a unit that nobody checked is
//! not a unit.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const UNIT: &str = "braze-datadog.service";

/// The exposure that `systemd-analyze security` may find, in tenths: 1.5 of 10.
const EXPOSURE_MAX: &str = "--threshold=15";

/// `shutdown_timeout` and `flush.timeout` by default, from the contract, seconds.
const STOP_SECONDS: u64 = 20 + 5;

fn unit() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(UNIT)).unwrap()
}

/// The values of a directive, in order.
fn values<'u>(unit: &'u str, name: &str) -> Vec<&'u str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// The unit with the binary that was built here in place of the one that is installed.
fn with_built_binary(unit: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(UNIT);
    assert!(unit.contains("/usr/local/bin/braze-datadog run "));
    let built = unit
        .replace("/usr/local/bin/braze-datadog run ", concat!(env!("CARGO_BIN_EXE_braze-datadog"), " run "));
    fs::write(&path, built).unwrap();
    (directory, path)
}

fn systemd_analyze(arguments: &[&str], unit: &Path) -> Output {
    let output =
        Command::new("systemd-analyze").args(arguments).arg(unit).env("SYSTEMD_COLORS", "0").output();
    output.unwrap_or_else(|error| {
        panic!("`systemd-analyze` could not be run: {error}; `make tools` installs what is missing")
    })
}

/// What `systemd-analyze verify` has to say; nothing, if all is well.
fn complaints(unit: &str) -> String {
    let (_directory, path) = with_built_binary(unit);
    let output = systemd_analyze(&["verify", "--man=no"], &path);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() || !said.is_empty(), "systemd-analyze verify failed without a word");
    said
}

#[test]
fn systemd_has_nothing_to_say_about_the_unit() {
    assert_eq!(complaints(&unit()), "");
}

#[test]
fn systemd_would_complain_about_a_misspelt_directive_and_a_missing_binary() {
    assert!(complaints(&unit().replace("WatchdogSec=", "WatchDogSecs=")).contains("WatchDogSecs"));
    assert!(
        complaints(&unit().replace("ExecReload=/bin/kill", "ExecReload=/bin/gone")).contains("/bin/gone")
    );
}

#[test]
fn the_unit_exposes_little() {
    let check = |unit: &str| {
        let (_directory, path) = with_built_binary(unit);
        systemd_analyze(&["security", "--offline=true", EXPOSURE_MAX, "--no-pager"], &path)
    };
    let output = check(&unit());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let softer = unit().replace("SystemCallFilter=", "# ");
    assert!(!check(&softer).status.success(), "the threshold stops nothing");
}

#[test]
fn the_unit_keeps_the_contract() {
    let unit = unit();
    let one = |name: &str| {
        let found = values(&unit, name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    };
    assert_eq!(one("Type"), "notify");
    assert_eq!(one("ExecReload"), "/bin/kill -HUP $MAINPID");
    assert_eq!((one("Restart"), one("RestartPreventExitStatus")), ("on-failure", "78"));
    assert_eq!((one("DynamicUser"), one("StateDirectory")), ("yes", "braze-datadog"));
    assert_eq!(one("LimitCORE"), "1", "a core dump would hold keys");
    assert_eq!(one("EnvironmentFile"), "-/etc/braze-datadog/environment");
    // How much memory there is, and which start of the machine this is, are read below /proc.
    assert_eq!(values(&unit, "ProcSubset"), [""; 0], "/proc/meminfo and boot_id would be hidden");
    let stop: u64 = one("TimeoutStopSec").trim_end_matches('s').parse().unwrap();
    assert!(stop > STOP_SECONDS, "SIGKILL after {stop} s comes before the end of a slow shutdown");
    let watchdog: u64 = one("WatchdogSec").trim_end_matches('s').parse().unwrap();
    assert!(watchdog >= 30, "a watchdog of {watchdog} s bites on a busy disk");
    for family in ["AF_INET", "AF_INET6", "AF_UNIX"] {
        assert!(one("RestrictAddressFamilies").split(' ').any(|allowed| allowed == family), "{family}");
    }
}

#[test]
fn the_unit_says_how_the_configuration_names_the_credential() {
    let unit = unit();
    let (name, source) = values(&unit, "LoadCredential")[0].split_once(':').unwrap();
    assert!(source.starts_with("/etc/braze-datadog/"));
    let named = format!("# api_key_file = \"/run/credentials/{UNIT}/{name}\"").replace("# ", "#   ");
    assert!(unit.contains(&named), "{named}");
}

/// Drop-ins that the page for operators writes for this unit: name and content. systemd reads them in the order of their names, behind the
/// unit.
fn drop_ins() -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let folder = format!(" > /etc/systemd/system/{UNIT}.d/");
    let page = fs::read_to_string(page).unwrap();
    let written = page.lines().filter_map(|line| {
        let (content, name) = line.strip_prefix("printf '")?.split_once(&folder)?;
        Some((name.to_owned(), content.trim_end_matches('\'').replace("\\n", "\n")))
    });
    written.collect()
}

#[test]
fn a_service_with_a_user_of_its_own_keeps_what_is_loaded_for_it_beside_the_unit() {
    let drop_ins = drop_ins();
    assert_eq!(drop_ins.len(), 2, "{drop_ins:?}");
    let mut loaded = Vec::new();
    let (unit, changes) = (unit(), drop_ins.values().cloned().collect::<String>());
    for credential in [values(&unit, "LoadCredential"), values(&changes, "LoadCredential")].concat() {
        match credential.split_once(':') {
            Some((name, _)) => loaded.push(name),
            // An empty one takes away all before it.
            None => loaded.clear(),
        }
    }
    assert_eq!(loaded, ["tokens"], "{drop_ins:?}");
}
