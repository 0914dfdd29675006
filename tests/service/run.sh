#!/usr/bin/env bash
# Tries the unit file and the released binary under a real systemd: boots one in a container root, in a network and
# a process tree of its own, and runs trial.sh there. Needs root, debootstrap and systemd-nspawn; `make service` installs
# them. The root is made once and kept in the directory named below.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=${1:?usage: run.sh BINARY [DIRECTORY]}
base=${2:-$project/target/systemd}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

if (( EUID != 0 )); then
  echo "run.sh: a container needs root: sudo make service" >&2
  exit 1
fi

if [[ ! -e $base/made ]]; then
  rm -rf "$base/root"
  mkdir -p "$base"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,ca-certificates,curl \
    bookworm "$base/root" "$mirror"
  touch "$base/made"
fi

root=$base/root
rm -rf "$root/etc/braze-datadog" "$root/var/lib/private/braze-datadog" "$root/var/lib/braze-datadog" "$root/source"
rm -rf "$root"/etc/systemd/system/braze-datadog.service* "$root/usr/local/bin/braze-datadog"
# What the head of the unit copies from.
install -D -m 755 "$binary" "$root/source/target/dist/braze-datadog"
cp -r "$project/config" "$root/source/config"
install -D -m 644 "$project/docs/operating.md" "$root/source/docs/operating.md"
install -m 755 "$project/tests/service/trial.sh" "$root/usr/local/bin/trial"
rm -f "$root/trial.log"
cat > "$root/etc/systemd/system/trial.service" <<'UNIT'
[Unit]
After=network.target dbus.service
[Service]
Type=oneshot
ExecStart=/usr/local/bin/trial
ExecStopPost=/bin/systemctl poweroff --no-block
StandardOutput=file:/trial.log
StandardError=file:/trial.log
TimeoutStartSec=5min
UNIT
install -d "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../trial.service "$root/etc/systemd/system/multi-user.target.wants/trial.service"

# A file system of its own on /run, for systemd-nspawn wants one that it may remove things from.
timeout 600 unshare --mount bash -c '
  mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd
  exec systemd-nspawn --quiet --directory="$1" --private-network --register=no --keep-unit --boot < /dev/null
' bash "$root" > "$base/boot.log" 2>&1 || true

if [[ ! -s $root/trial.log ]]; then
  echo "run.sh: systemd did not come up; what it said is in $base/boot.log" >&2
  exit 1
fi
cat "$root/trial.log"
grep -qE '^[1-9][0-9]* passed, 0 failed$' "$root/trial.log"
