#!/usr/bin/env bash
# Docker Engine with Compose and BuildKit on a bare Debian 12 machine, from the Debian mirror that its apt uses.
#
# Debian 12 itself has no Compose v2 and an engine that is too old for the compose file. Those of Debian 13 need
# nothing newer than Debian 12's C library, so they are fetched through an apt configuration of their own and
# installed as files; the machine's package sources stay as they are.
set -euo pipefail
if docker compose version >/dev/null 2>&1 && command -v dockerd >/dev/null; then
  exit 0
fi
suite=trixie
export DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Identifier: Packages' | head -n 1)}
[ -n "$mirror" ] || { echo "apt knows no Debian mirror: name one with MIRROR=." >&2; exit 1; }

mkdir -p "$work"/{lists/partial,archives/partial,parts,debs}
touch "$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
apt=(apt-get -qq
  -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts="$work/parts"
  -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status"
  -o Dir::Cache::Archives="$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
  -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work/debs" && "${apt[@]}" download docker.io docker-cli containerd docker-compose docker-buildx)
apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 iptables iproute2 debootstrap "$work"/debs/*.deb \
  >/dev/null
docker compose version
