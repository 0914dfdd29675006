#!/usr/bin/env bash
# What the unit promises, tried under systemd. Runs inside the container root that run.sh makes.
set -uo pipefail

configuration=/etc/braze-datadog/braze-datadog.toml
page=/source/docs/operating.md
# shellcheck source=tests/service/checks.sh
source /usr/local/lib/trial-checks.sh

owner_of_process() { [[ $(stat --format %u "/proc/$(property MainPID)") != 0 ]]; }
keeps_to_itself() { [[ $(stat --format %a /var/lib/private/braze-datadog) == 700 ]]; }
credential_is_private() { [[ $(stat --format %a /run/credentials/$unit/datadog_api_key) == 4?0 ]]; }
exposure() {
  local score
  score=$(systemd-analyze security "$unit" --no-pager | awk '/Overall exposure level/ { print $(NF - 2) }' | grep -oE '[0-9]+\.[0-9]+')
  echo "the exposure level is $score"
  awk -v score="$score" 'BEGIN { exit !(score > 0 && score <= 1.5) }'
}

# To the letter: the commands in the head of the unit, for a key that is there.
follow_the_head() {
  echo 0123456789abcdef0123456789abcdef > /source/KEY_FILE
  sed -nE 's/^#   ((install|systemctl) .*)/\1/p' /source/config/braze-datadog.service > /tmp/head.sh
  cat /tmp/head.sh
  (( $(wc -l < /tmp/head.sh) == 7 )) && (cd /source && bash -eu /tmp/head.sh)
}
check "the commands in the unit's head start it" follow_the_head
check "it runs with what they have installed" until_true ready
check "it receives events then" push head
check "it has something to read, and says nothing else" unsaid "nothing can come in"
systemctl stop "$unit"
rm -rf /var/lib/private/braze-datadog

cat > "$configuration" <<'TOML'
[push]
listen = "127.0.0.1:8080"
[flush]
interval = "1s"
[connections.acme]
site = "EU1"
dry_run = true
api_key_file = "/run/credentials/braze-datadog.service/datadog_api_key"
TOML
chmod 644 "$configuration"
systemctl daemon-reload

check "start returns when it is ready" systemctl start "$unit"
check "it takes events then" ready
check "it is not root" owner_of_process
check "its state directory is its own" keeps_to_itself
check "the credential is for the service alone" credential_is_private
check "a push is answered" push a b c
check "what was pushed is counted" until_true accepted 3
check "its exposure is at most 1.5" exposure
# A quarter of it, at 512 bytes a series.
memory_fits() {
  local bytes limit
  bytes=$(awk '$1 == "MemTotal:" { print $2 * 1024 }' /proc/meminfo)
  limit=$(cat /sys/fs/cgroup/memory.max 2> /dev/null || echo max)
  [[ $limit == max ]] || (( limit > bytes )) || bytes=$limit
  setting flush.max_series_total $(( bytes / 4 / 512 ))
}
check "it knows how much memory the machine has" memory_fits

sed -i 's/^interval = .*/interval = "2s"/' "$configuration"
check "a reload succeeds" systemctl reload "$unit"
check "what needs a restart is told" until_true said "flush.interval"
check "it goes on" is ActiveState active
echo 'nonsense = 1' >> "$configuration"
check "a reload with a wrong file is survived" systemctl reload "$unit"
check "and told" until_true said "nonsense"
check "it still takes events" push d
sed -i '/^nonsense/d' "$configuration"

kill -KILL "$(property MainPID)"
check "it is started again after a kill" until_true restarted 1
check "and takes events" push e

# No flush comes between a push and the end of the process.
sed -i 's/^interval = .*/interval = "60s"/' "$configuration"
systemctl restart "$unit"
lose_the_end() {
  local logs
  push x y z || return 1
  kill -KILL "$(property MainPID)"
  # RestartSec leaves two seconds.
  sleep 0.3
  logs=(/var/lib/private/braze-datadog/queue/*.log)
  truncate --size=-10 "${logs[-1]}"
}
lost_exactly() {
  [[ $(metric braze_datadog_queue_events_lost_total) == "$1" && $(metric braze_datadog_queue_events_perhaps_lost_total) == 0 ]]
}
check "a queue is cut shorter while the process is dead" lose_the_end
check "the process is started again" until_true restarted 1
check "it knows that the machine has not died, so that what is lost is told exactly" lost_exactly 3
sed -i 's/^interval = .*/interval = "2s"/' "$configuration"

install -m 600 /dev/null /etc/braze-datadog/environment
echo 'BRAZE_DATADOG__FLUSH__INTERVAL=7s' > /etc/braze-datadog/environment
systemctl restart "$unit"
check "its environment is a file of root's" setting flush.interval 7s
rm /etc/braze-datadog/environment
check "the recipe for a file with a secret can be followed" recipe "systemd, a file with a secret"
sed -i 's|^listen = .*|&\ntoken_file = "/run/credentials/braze-datadog.service/tokens"|' "$configuration"
check "it starts with it" systemctl restart "$unit"
check "a push without a token is refused" answers 401
check "one with it is not" answers 200 --header "Authorization: Bearer $(cat /etc/braze-datadog/tokens)"
echo a-second-token-beside-the-first >> /etc/braze-datadog/tokens
check "the copy stays as it was, as the page says" answers 401 --header "Authorization: Bearer a-second-token-beside-the-first"
systemctl restart "$unit"
check "until a restart" answers 200 --header "Authorization: Bearer a-second-token-beside-the-first"
sed -i '/^token_file/d' "$configuration"

printf '[Service]\nWatchdogSec=3s\n' > /etc/systemd/system/$unit.d/watchdog.conf
systemctl daemon-reload
check "a restart succeeds" systemctl restart "$unit"
sleep 5
check "it keeps its watchdog quiet" is NRestarts 0
kill -STOP "$(property MainPID)"
check "a process that hangs is ended and started again" until_true restarted 1
check "systemd says why" until_true said "Watchdog timeout"

check "a stop succeeds" systemctl stop "$unit"
check "cleanly" is Result success
check "with status 0" is ExecMainStatus 0

# The commands on the page for operators, and a customer whose key is rotated.
add() { echo "$2" | braze-datadog connections add "$1" --app-group "g-$1" --url http://127.0.0.1:9 --json; }
rotate() { echo fedcba9876543210fedcba9876543210 | braze-datadog connections rotate "$1" --json; }
in_force() { "$@" | tee /dev/stderr | grep -qF '"forwarder":"in_force"'; }
owner() { [[ $(stat --format %U:%a "$1") == "$2" ]]; }
check "it runs once more, and its user has a name" bash -c 'systemctl start braze-datadog && getent passwd braze-datadog'
check "the recipe for many customers can be followed" recipe "systemd, many customers"
check "a first customer is added before the start" add acme 0123456789abcdef0123456789abcdef
# What the recipe for a secret has made stays in force below this one.
sed -i 's|^listen = .*|&\ntoken_file = "/run/credentials/braze-datadog.service/tokens"|' "$configuration"
check "the service starts with it, and with the copy of a secret" systemctl start "$unit"
check "a push without a token is refused then" answers 401
check "one with it is not refused" answers 200 --header "Authorization: Bearer a-second-token-beside-the-first"
check "as the user of the recipe" bash -c '[[ $(ps -o user:20= -p $(systemctl show braze-datadog -p MainPID --value)) == braze-datadog* ]]'
check "a second one is added while it runs" in_force add beta 0123456789abcdef0123456789abcdef
check "its key is the user's alone" owner /etc/braze-datadog/connections/beta.key braze-datadog:600
check "a key is rotated" in_force rotate acme
check "without a restart" is NRestarts 0
check "the service stops" systemctl stop "$unit"
rm /etc/systemd/system/$unit.d/10-user.conf /etc/systemd/system/$unit.d/tokens.conf
printf '[connections.acme]\nsite = "nowhere"\n' > "$configuration"
systemctl daemon-reload

systemctl reset-failed "$unit" 2> /dev/null
check "a wrong configuration fails the start" bash -c "! systemctl start $unit"
check "with status 78" is ExecMainStatus 78
sleep 3
check "and is not tried again" is NRestarts 0

end
