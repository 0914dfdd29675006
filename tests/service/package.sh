#!/usr/bin/env bash
# What the Debian package promises, from its installation to its purge, with apt and under systemd. Runs inside the container
# root that run.sh makes.
set -uo pipefail

# shellcheck source=tests/service/checks.sh
source /usr/local/lib/trial-checks.sh
export DEBIAN_FRONTEND=noninteractive
configuration=/etc/braze-datadog/braze-datadog.toml
connections=/etc/braze-datadog/connections
page=/usr/share/braze-datadog/docs/operating.md
state=/var/lib/braze-datadog

apt() { apt-get --quiet=2 --yes --option Dpkg::Use-Pty=0 "$@"; }
installed() { dpkg-query --show --showformat '${Version}' braze-datadog; }
owner() { [[ $(stat --format %U:%a "$1") == "$2" ]] || { stat "$1"; return 1; }; }
user_of_process() { [[ $(stat --format %U "/proc/$(property MainPID)") == braze-datadog ]]; }
add() { echo 0123456789abcdef0123456789abcdef | braze-datadog connections add acme --app-group g --url http://127.0.0.1:9 --json; }
lacks() { local path; for path in "$@"; do [[ ! -e $path ]] || { echo "$path is there"; return 1; }; done; }
has() { local path; for path in "$@"; do [[ -e $path ]] || { echo "$path is missing"; return 1; }; done; }
is_not() { ! systemctl --quiet "$@"; }
exposure() {
  local score
  score=$(systemd-analyze security "$unit" --no-pager | awk '/Overall exposure level/ { print $(NF - 2) }' | grep -oE '[0-9]+\.[0-9]+')
  echo "the exposure level is $score"
  awk -v score="$score" 'BEGIN { exit !(score > 0 && score <= 1.5) }'
}

check "apt installs it" apt install /packages/first.deb
first=$(installed)
check "it says its version" bash -c '[[ $(braze-datadog --version) == "braze-datadog ${0%%-*} ("* ]]' "$first"
check "man pages and completions are where they are looked for" has /usr/share/man/man1/braze-datadog{,-run,-check}.1.gz \
  /usr/share/bash-completion/completions/braze-datadog /usr/share/zsh/vendor-completions/_braze-datadog \
  /usr/share/fish/vendor_completions.d/braze-datadog.fish
check "the licences and what has changed, too" has /usr/share/doc/braze-datadog/{copyright,THIRD-PARTY-NOTICES,changelog.gz,changelog.Debian.gz}
check "pages and configurations are where the configuration says" has "$page" \
  /usr/share/braze-datadog/samples/currents.ndjson /usr/share/braze-datadog/config/{braze-datadog.toml,braze-datadog.schema.json,quickstart.toml,datadog/dashboard.json,prometheus/alerts.yaml,opentelemetry/collector.yaml}
check "the configuration is a conffile" bash -c "dpkg-query --show --showformat '\${Conffiles}' braze-datadog | grep -F $configuration"
check "connections belong to the service's user" owner "$connections" braze-datadog:750
check "it is not started, for it has no connection" is_not is-active "$unit"
check "nor enabled" is_not is-enabled "$unit"
check "a start without a connection fails" bash -c "! systemctl start $unit"
check "with status 78" is ExecMainStatus 78
check "and says what is missing" until_true said "connections: there is none"
systemctl reset-failed "$unit"

check "a connection is added" add
check "its key is the service's alone" owner "$connections/acme.key" braze-datadog:600
check "the service is enabled and starts" systemctl enable --now "$unit"
check "it is ready" until_true ready
check "as its user" user_of_process
check "its state is its user's alone" owner "$state" braze-datadog:700
check "a push is answered" push a
check "its exposure is at most 1.5" exposure
check "the recipe for a file with a secret can be followed" recipe "Debian, a file with a secret"
check "it is the service's alone" owner /etc/braze-datadog/tokens braze-datadog:600
sed -i 's/^#token_file = "tokens".*/token_file = "tokens"/' "$configuration"
check "it starts with it" systemctl restart "$unit"
check "a push without a token is refused" answers 401
check "one with it is not" answers 200 --header "Authorization: Bearer $(cat /etc/braze-datadog/tokens)"
sed -i 's/^token_file = "tokens"/#&/' "$configuration"
install -m 600 /dev/null /etc/braze-datadog/environment
echo 'BRAZE_DATADOG__FLUSH__INTERVAL=7s' > /etc/braze-datadog/environment
systemctl restart "$unit"
check "its environment is a file of root's" setting flush.interval 7s
rm /etc/braze-datadog/environment
systemctl restart "$unit"

echo '# ours' >> "$configuration"
process=$(property MainPID)
check "apt upgrades it" apt install /packages/newer.deb
check "to the newer version" dpkg --compare-versions "$(installed)" gt "$first"
check "the new one is ready" until_true ready
check "it was restarted" bash -c "[[ $(property MainPID) != $process ]]"
check "a change of the configuration is kept" grep -qxF '# ours' "$configuration"
check "what is queued stays" has "$state/queue/lock"
check "it takes events" push b
check "it is still enabled" systemctl --quiet is-enabled "$unit"

check "apt removes it" apt remove braze-datadog
check "it is stopped" is_not is-active "$unit"
check "with its binary" lacks /usr/bin/braze-datadog
check "its configuration, connections and state stay" has "$configuration" "$connections/acme.key" "$state/queue"
check "apt installs it again" apt install /packages/newer.deb
check "it starts with what was there" systemctl start "$unit"
check "and is ready" until_true ready
check "apt reinstalls it while it runs" apt install --reinstall /packages/newer.deb
check "it runs on" until_true ready
systemctl stop "$unit"
check "a stopped one is upgraded" apt install --reinstall /packages/newer.deb
check "and not started by that" is_not is-active "$unit"
systemctl start "$unit"

check "apt purges it" apt purge braze-datadog
check "it is stopped then" is_not is-active "$unit"
check "nothing is left of it" lacks /etc/braze-datadog "$state" /etc/systemd/system/multi-user.target.wants/$unit \
  /usr/lib/sysusers.d/braze-datadog.conf /usr/share/doc/braze-datadog /usr/share/braze-datadog
check "its user neither" bash -c '! getent passwd braze-datadog && ! getent group braze-datadog'

end
