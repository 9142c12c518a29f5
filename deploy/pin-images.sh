#!/bin/sh
# Write the digests of the images that are not built here into .env: a tag can be moved, a digest cannot.
set -eu
cd "$(dirname "$0")/.."
touch .env

pin() { # setting, image
  digest=$(docker buildx imagetools inspect "$2" --format '{{.Manifest.Digest}}')
  sed -i "/^$1=/d" .env
  echo "$1=$3@$digest" >> .env
  echo "$1=$3@$digest"
}

pin DEPLOY_BASE_IMAGE python:3.11-slim python:3.11-slim
pin DEPLOY_PROMETHEUS_VERSION prom/prometheus:v3.5.0 v3.5.0
pin DEPLOY_GRAFANA_VERSION grafana/grafana:12.1.1 12.1.1
