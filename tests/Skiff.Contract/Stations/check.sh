#!/bin/bash
# check.sh [TREE [KILLS]]   runs in a machine with systemd and containerd.service, our tree in TREE (/opt/skiff), the guests' image in /skiff-guests.tar:
# the same hello under both cgroup drivers, and nothing left. Prints "station ok" at the end.
set -euo pipefail
for _ in $(seq 100); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done
ctr images import /skiff-guests.tar >/dev/null
printf 'SystemdCgroup = true\n' > /tmp/systemd.toml
image=skiff.test/guests:1 shim=${1:-/opt/skiff}/bin/containerd-shim-skiff-v1 kills=${2:-12}

for kind in wasm component.wasm native; do
  timeout 120 ctr run --rm --runtime $shim $image plain-$kind /hello.$kind a
  timeout 120 ctr run --rm --runtime $shim --runtime-config-path /tmp/systemd.toml --cgroup system.slice:skiff:systemd-$kind $image systemd-$kind /hello.$kind a
done

timeout 120 ctr run -d --null-io --runtime $shim --runtime-config-path /tmp/systemd.toml --cgroup system.slice:skiff:sleeper $image sleeper /sleep.wasm
pid=$(ctr task ls | awk '$1 == "sleeper" {print $2}')
grep -q 'system.slice/skiff-sleeper.scope' "/proc/$pid/cgroup"
[ "$(systemctl is-active skiff-sleeper.scope)" = active ]
ctr task kill --signal SIGTERM sleeper
for _ in $(seq 100); do ctr task ls | grep 'sleeper.*STOPPED' > /dev/null && break; sleep 0.2; done
ctr task ls | grep 'sleeper.*STOPPED' > /dev/null
(ctr task delete sleeper 2>&1 || true) | grep 'exit code 143'
ctr container rm sleeper

timeout 120 ctr run -d --null-io --runtime $shim $image family /sleep.native
ctr task kill --all --signal SIGKILL family
for _ in $(seq 100); do ctr task ls | grep 'family.*STOPPED' > /dev/null && break; sleep 0.2; done
(ctr task delete family 2>&1 || true) | grep 'exit code 137'
ctr container rm family

# A kill for want of memory is one event, before the exit, although systemd removes a scope as soon as it is empty.
ctr events > /tmp/events & events=$!
for i in $(seq "$kills"); do
  timeout 120 ctr run --rm --null-io --memory-limit 33554432 --runtime $shim --runtime-config-path /tmp/systemd.toml --cgroup "system.slice:skiff:oom-$i" $image "oom-$i" /grow.native || [ $? = 137 ]
done
topics() { grep "\"container_id\":\"$1\"" /tmp/events | grep -o '/tasks/[a-z]*' | tr '\n' ' '; }
for i in $(seq "$kills"); do
  for _ in $(seq 100); do topics "oom-$i" | grep delete > /dev/null && break; sleep 0.1; done
  [ "$i" = 1 ] || [ "$(topics "oom-$i")" = "/tasks/create /tasks/start /tasks/oom /tasks/exit /tasks/delete " ] || { echo "events of oom-$i: $(topics "oom-$i")"; exit 1; }
done
kill $events

for _ in $(seq 150); do [ -z "$(ls /run/containerd/s /run/containerd/runc/default)" ] || sleep 0.2; done
ls -A /run/containerd/s /run/containerd/runc/default /run/containerd/io.containerd.runtime.v2.task/default | grep -v ':$' | grep . && exit 1
[ "$(systemctl is-active skiff-sleeper.scope)" = inactive ]
shims() { for c in /proc/[0-9]*/exe; do [ "$(readlink "$c" || true)" != $shim ] || echo "$c"; done; }
for _ in $(seq 300); do [ -n "$(shims)" ] || break; sleep 0.1; done   # a socket goes before its shim
[ -z "$(shims)" ] || { echo "a shim is left"; exit 1; }
echo "station ok"
