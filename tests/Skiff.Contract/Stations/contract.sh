#!/bin/bash
# Runs in a machine with systemd and Debian's containerd, with the tests, the guests and the tree below /repo and .NET in /dotnet: the contract
# tests of /arguments on what this machine has, its cgroup v2 above all. Prints "contract ok" at the end.
set -euo pipefail
export HOME=/root DOTNET_ROOT=/dotnet DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 SKIFF_OOM_RUNS=${SKIFF_OOM_RUNS:-4}
mapfile -t arguments < /arguments
runc --version | head -1
/repo/tests/Skiff.Contract -noColor "${arguments[@]}"
echo "contract ok"
