#!/bin/sh
# Makes the tokens that the manifests mount, once: what is there already stays. `make secrets` runs it.
#
#   api-tokens     of the control API, mounted by orchestrators
#   fleet-tokens   between orchestrators and inference servers, mounted by both, in the namespace of each
#
# No token passes over a command line, where `ps` would show it.
set -eu
namespace=${NAMESPACE:-visavis}
inference=${INFERENCE_NAMESPACE:-$namespace-inference}
kubectl=${KUBECTL:-kubectl}

for each in "$namespace" "$inference"; do
  $kubectl get namespace "$each" >/dev/null 2>&1 || $kubectl create namespace "$each"
done
for name in api fleet; do
  if $kubectl -n "$namespace" get secret "$name-tokens" >/dev/null 2>&1; then
    echo "secret/$name-tokens is there already"
  else
    printf 'visavis_%s * %s\n' "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')" "$name" |
      $kubectl -n "$namespace" create secret generic "$name-tokens" --from-file=tokens=/dev/stdin
  fi
done
# the same ones beside the inference servers, each time anew: those of the calls are the ones that count
$kubectl -n "$namespace" get secret fleet-tokens -o 'go-template={{.data.tokens | base64decode}}' |
  $kubectl -n "$inference" create secret generic fleet-tokens --from-file=tokens=/dev/stdin --dry-run=client -o yaml |
  $kubectl -n "$inference" apply -f - >/dev/null
echo "secret/fleet-tokens is in $inference, too"
echo "The API's token: $kubectl -n $namespace get secret api-tokens -o 'go-template={{.data.tokens | base64decode}}'"
