#!/bin/bash
# Runs in a machine with systemd and Debian's containerd, with the tests, the guests and the tree below /repo and .NET in /dotnet: the contract
# tests of /arguments on what this machine has, its cgroup v2 above all; once with runc and once with crun. Prints "contract ok" at the end.
set -euo pipefail
export HOME=/root DOTNET_ROOT=/dotnet DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 SKIFF_OOM_RUNS=${SKIFF_OOM_RUNS:-4}
mapfile -t arguments < /arguments
contract() {
  runc --version | head -1
  /repo/tests/Skiff.Contract -noColor "${arguments[@]}"
}
contract
mkdir -p /usr/local/sbin
ln -s "$(command -v crun)" /usr/local/sbin/runc
export PATH=/usr/local/sbin:$PATH
contract
echo "contract ok"
