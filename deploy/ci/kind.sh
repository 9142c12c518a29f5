#!/bin/sh
# Admission, a call and a drained node on a cluster of kind (https://kind.sigs.k8s.io), for a CI of your own. It has not
# been run where Visavis is made: no API server can be had there.
#
#   deploy/ci/kind.sh             needs docker, kind, kubectl; takes a few minutes; removes its cluster at the end
set -eu
cd "$(dirname "$0")/../.."
cluster=visavis-ci
work=$(mktemp -d)
trap 'kind delete cluster --name "$cluster"; rm -rf "$work"' EXIT

docker build -f deploy/orchestrator.Dockerfile --target orchestrator -t visavis/orchestrator:0.1.0 .
docker build -f deploy/inference.Dockerfile --target cpu -t visavis/inference:0.1.0 .
cat >"$work/kind.yaml" <<'YAML'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
  - {role: worker, labels: {visavis.dev/calls: "true"}}
  - {role: worker, labels: {visavis.dev/calls: "true"}}
  - {role: worker, labels: {visavis.dev/calls: "true"}}
YAML
kind create cluster --name "$cluster" --config "$work/kind.yaml" --wait 120s
kind load docker-image --name "$cluster" visavis/orchestrator:0.1.0 visavis/inference:0.1.0

# the pods ask for what a machine for calls has; here they get what there is
cat >"$work/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [$(realpath --relative-to="$work" deploy/kubernetes/overlays/cpu)]
patches:
  - target: {kind: Deployment}
    patch: |
      - {op: replace, path: /spec/template/spec/containers/0/resources/requests, value: {cpu: 100m, memory: 256Mi}}
YAML
make secrets
kubectl -n visavis create secret generic orchestrator-settings --from-file=settings.toml=deploy/settings.toml
kubectl apply -k "$work"
kubectl -n visavis-inference rollout status deployment/inference --timeout=300s
kubectl -n visavis rollout status deployment/orchestrator --timeout=300s

# an orchestrator tells what it lacks; nothing is what it should be
pod=$(kubectl -n visavis get pods -l app.kubernetes.io/name=orchestrator -o name | head -n 1)
kubectl -n visavis exec "$pod" -- python -c '
import json, subprocess, time, urllib.request
token = subprocess.run(["visavis-token"], capture_output=True, text=True, check=True).stdout.strip()
ask = urllib.request.Request("http://127.0.0.1:8080/v1/status", headers={"Authorization": "Bearer " + token})
for _ in range(120):
    missing = json.load(urllib.request.urlopen(ask))["missing"]
    if not missing:
        break
    time.sleep(1)
raise SystemExit("; ".join(missing))'

node=$(kubectl -n visavis get "$pod" -o 'jsonpath={.spec.nodeName}')
kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data --timeout=300s
kubectl -n visavis rollout status deployment/orchestrator --timeout=300s
test "$(kubectl -n visavis get pods -l app.kubernetes.io/name=orchestrator --field-selector "spec.nodeName=$node" -o name)" = ""
echo "admitted, a face is there, a node was drained"
