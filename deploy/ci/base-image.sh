#!/usr/bin/env bash
# A stand-in for python:3.11-slim where no registry of images can be reached: Debian 12 and its own Python 3.11.
#
#   deploy/ci/base-image.sh [TAG]        default: python:3.11-slim
#
# For tests on a bare Debian machine only; never push it. Packages come from the mirror that this machine's apt
# uses, and this machine's private certificate authorities are trusted inside, so that `pip install` in a build
# works wherever it works outside. DOCKER_HOST names the engine; MIRROR another Debian mirror.
set -euo pipefail
tag=${1:-python:3.11-slim}
suite=bookworm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

[ "$(id -u)" = 0 ] || { echo "base-image.sh must run as root: debootstrap makes a root file system." >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "base-image.sh needs debootstrap: apt-get install debootstrap." >&2; exit 1; }
if [ -z "${MIRROR:-}" ]; then
  MIRROR=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $suite" "Identifier: Packages" | head -n 1)
fi
[ -n "$MIRROR" ] || { echo "apt knows no mirror of $suite: name one with MIRROR=." >&2; exit 1; }

debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,tzdata,netbase \
  "$suite" "$root" "$MIRROR" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }

authorities=/usr/local/share/ca-certificates
if compgen -G "$authorities/*.crt" >/dev/null; then
  cp "$authorities"/*.crt "$root$authorities/"
  # TMPDIR of this machine may be no folder in there.
  env -u TMPDIR chroot "$root" update-ca-certificates >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
fi
# where the official image has them
ln -s /usr/bin/python3 "$root/usr/local/bin/python3"
ln -s python3 "$root/usr/local/bin/python"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*.log "$root"/var/log/apt \
  "$root"/usr/share/{doc,man,info,locale}/* "$root"/etc/resolv.conf "$root"/etc/hostname
find "$root" -name __pycache__ -prune -exec rm -rf {} +

bundle=/etc/ssl/certs/ca-certificates.crt
tar -C "$root" --sort=name -c . | docker import \
  --change 'CMD ["python3"]' \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change "ENV LANG=C.UTF-8 PIP_CERT=$bundle SSL_CERT_FILE=$bundle REQUESTS_CA_BUNDLE=$bundle" \
  --change 'LABEL org.visavis.stand-in=true' - "$tag"
