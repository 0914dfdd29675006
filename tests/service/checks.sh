# shellcheck shell=bash disable=SC2034
# What both trials count and ask with; sourced inside the container root. A trial ends with "N passed, N failed".

unit=braze-datadog.service
passed=0 failed=0

# check WHAT COMMAND…: WHAT holds if the command succeeds.
check() {
  local what=$1
  shift
  if "$@" > /tmp/said 2>&1; then
    passed=$((passed + 1))
    echo "ok      $what"
  else
    failed=$((failed + 1))
    echo "FAILED  $what"
    sed 's/^/        /' /tmp/said
    journal --lines 20 | sed 's/^/        | /'
  fi
}

# until_true COMMAND…: tries for 30 s.
until_true() {
  local tries=300
  until "$@"; do
    (( tries-- > 0 )) || return 1
    sleep 0.1
  done
}

property() { systemctl show "$unit" --property "$1" --value; }
is() { [[ $(property "$1") == "$2" ]] || { echo "$1 is $(property "$1"), not $2"; return 1; }; }
# What the unit and systemd have said since this boot: the trial before it ran in the same root, and had a unit of the same name.
journal() { journalctl --boot --unit "$unit" --no-pager "$@"; }
# Read to its end, or a pipe that fails would say that it was not said.
said() { journal --output cat | grep -F -- "$1"; }
unsaid() { ! said "$1"; }
ready() { curl --silent --fail --max-time 2 http://127.0.0.1:8081/readyz; }
metric() { curl --silent --max-time 2 http://127.0.0.1:8081/metrics | awk -v name="$1" 'index($1, name) == 1 { sum += $2 } END { print sum + 0 }'; }
accepted() { [[ $(metric braze_datadog_sends_accepted_total) == "$1" ]]; }
# setting KEY VALUE: what /status says of it.
setting() {
  local value
  value=$(curl --silent --max-time 2 http://127.0.0.1:8081/status | grep --after-context=1 "\"key\": \"$1\"" | sed -nE 's/.*"value": "(.*)".*/\1/p')
  [[ $value == "$2" ]] || { echo "$1 is $value, not $2"; return 1; }
}
restarted() { [[ $(property NRestarts) == "$1" && $(property ActiveState) == active ]] && ready; }

# recipe MARK: the commands below it on the page for operators, to the letter, in a folder of their own.
recipe() {
  sed -n "/^<!-- $1 -->/,/^\`\`\`\$/p" "${page:?}" | grep -v '^<!--\|^```' > /tmp/recipe.sh
  cat /tmp/recipe.sh
  (( $(wc -l < /tmp/recipe.sh) >= 2 )) && (cd "$(mktemp -d)" && bash -eu /tmp/recipe.sh)
}
# answers STATUS [CURL OPTION…]: to an empty push.
answers() {
  local status=$1
  shift
  [[ $(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' --data '{"events":[]}' "$@" http://127.0.0.1:8080/v1/events) == "$status" ]]
}

push() {
  local events='' id
  for id in "$@"; do
    events+="${events:+,}{\"event_type\":\"users.messages.email.Send\",\"id\":\"$id\",\"time\":$(date +%s),\"properties\":{\"app_group_id\":\"g\",\"campaign_id\":\"c\"}}"
  done
  curl --silent --fail --max-time 5 --header 'Content-Type: application/json' --data "{\"events\":[$events]}" \
    http://127.0.0.1:8080/v1/events
}

end() { echo "$passed passed, $failed failed"; }
