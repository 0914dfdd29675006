#!/usr/bin/env bash
# Tries the unit file with the released binary, and the Debian package, under a real systemd: boots one in a container root, in
# a network and a process tree of its own, and runs trial.sh there, then package.sh. Needs root, debootstrap and systemd-nspawn;
# `make service` installs them. The root is made once and kept in the directory named below.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
usage='usage: run.sh BINARY PACKAGE NEWER_PACKAGE [DIRECTORY]'
binary=${1:?$usage}
package=${2:?$usage}
newer=${3:?$usage}
base=${4:-$project/target/systemd}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

if (( EUID != 0 )); then
  echo 'run.sh: a container needs root: sudo env "PATH=$PATH" "HOME=$HOME" make service' >&2
  exit 1
fi

for file in "$binary" "$package" "$newer"; do
  [[ -f $file ]] || { echo "run.sh: $file is not there; \`make service\` makes it" >&2; exit 1; }
done

# With names for users that change, as Debian has it.
if [[ ! -e $base/made ]] || ! compgen -G "$base/root/var/lib/dpkg/info/libnss-systemd*.list" > /dev/null; then
  rm -rf "$base/root"
  mkdir -p "$base"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,libnss-systemd,dbus,procps,ca-certificates,curl \
    bookworm "$base/root" "$mirror"
  touch "$base/made"
fi

root=$base/root

# What an earlier trial has left.
clean() {
  chroot "$root" dpkg --purge braze-datadog > /dev/null 2>&1 || true
  rm -rf "$root/etc/braze-datadog" "$root/var/lib/private/braze-datadog" "$root/var/lib/braze-datadog" "$root/source" "$root/packages"
  rm -rf "$root"/etc/systemd/system/braze-datadog.service* "$root/usr/local/bin/braze-datadog" "$root/trial.log"
  rm -f "$root/etc/systemd/system/multi-user.target.wants/braze-datadog.service"
  rm -rf "$root/var/log/journal"
  sed -i '/^braze-datadog:/d' "$root/etc/passwd" "$root/etc/group" "$root/etc/shadow" "$root/etc/gshadow"
}

# boot SCRIPT: runs it in there as a service, shows what it says, and fails if one of its checks does.
boot() {
  install -m 755 "$project/tests/service/$1" "$root/usr/local/bin/trial"
  install -m 644 "$project/tests/service/checks.sh" "$root/usr/local/lib/trial-checks.sh"
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
  # shellcheck disable=SC2016
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
}

clean
# What the head of the unit copies from.
install -D -m 755 "$binary" "$root/source/target/dist/braze-datadog"
cp -r "$project/config" "$root/source/config"
install -D -m 644 "$project/docs/operating.md" "$root/source/docs/operating.md"
boot trial.sh

echo
clean
install -D -m 644 "$package" "$root/packages/first.deb"
install -D -m 644 "$newer" "$root/packages/newer.deb"
boot package.sh
clean
