#!/bin/bash
# Runs in a machine with systemd and Debian's containerd, with the tests, the guests and the tree below /repo and .NET in /dotnet: check.sh, the
# agent's watch of cgroups, and the contract tests on what this machine has, its cgroup v2 above all, through each OCI runtime and cgroup driver.
# /runs has a line for each run: OCI runtime, cgroup driver, classes; what is the same with any cgroup is left out unless /all is not empty. Prints "contract ok" at the end.
set -euo pipefail
export HOME=/root DOTNET_ROOT=/dotnet DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 DOTNET_TieredPGO=0 SKIFF_OOM_RUNS=${SKIFF_OOM_RUNS:-2} SKIFF_CONTAINERDS=1.6
step() { echo "$(cut -d. -f1 /proc/uptime) s after boot: $*"; }
step check.sh
bash /check.sh /repo/out 2
step "the agent's watch of cgroups"
/repo/operator-tests/Skiff.Operator.Tests -noColor -class Skiff.Operator.Tests.OomEvents.CgroupWatchTests
while read -r -u 3 runtime driver classes; do
  ln -sf "$(command -v "$runtime")" /usr/local/sbin/runc
  step "$(runc --version | sed -n 1p), $driver: $classes"
  arguments=()
  for class in $classes; do arguments+=(-class "Skiff.Contract.$class"); done
  [ -n "$(cat /all)" ] || arguments+=(-trait- cgroup=any)
  SKIFF_CGROUP_DRIVER=$driver /repo/tests/Skiff.Contract -noColor -preEnumerateTheories "${arguments[@]}" -result-xml /tmp/report.xml
  grep -o '<test [^>]*>' /tmp/report.xml | sed 's/.*name="\([^"]*\)".* time="\([0-9.]*\)".*/\2 s \1/'
  rm /usr/local/sbin/runc
done 3< /runs
step end
echo "contract ok"
