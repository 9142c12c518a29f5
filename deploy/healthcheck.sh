#!/bin/bash
# Health check of a container that starts no Python: healthcheck.sh orchestrator|inference
#
# healthcheck.py, which knows the settings, leaves the address of a plain /healthz in a file; from then on this asks
# there by itself. Whatever is not a plain 200 within three seconds is asked of healthcheck.py again, which says why.
address=${TMPDIR:-/tmp}/visavis-probe-$1
if read -r host port 2>/dev/null <"$address"; then
  {
    [[ $host == *:* ]] && name="[$host]" || name=$host
    printf 'GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$name" >&3
    read -r -t 3 _ status _ <&3
  } 3<>"/dev/tcp/$host/$port" 2>/dev/null
  [ "$status" = 200 ] && exit 0
fi
exec python "$(dirname "$0")/healthcheck.py" "$1" "$address"
