#!/usr/bin/env bash
# Gate a fine-tune against its base with the identity bias suite:
#
#     bash examples/gate.sh CANDIDATE BASE [REPORTS]
#
# The base is measured once per state of suite and tool and kept under REPORTS (default: reports). The exit code is the
# gate's: 0 passes; 1 a claim failed; 10 something is undecided; 11 no trust in the numbers; 4 the command is wrong.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 4
fi
candidate=$1 base=$2 reports=${3:-reports}
python=${PYTHON:-python}
state=$(cat $(find suites/identity_bias auditkit -name '*.py' -o -name '*.toml' | sort) | sha256sum | cut -c1-12)
recorded=$reports/base-$(printf %s "$base" | tr -c 'A-Za-z0-9._-' '-')-$state

if [ ! -f "$recorded/latest/audit.json" ]; then
  code=0
  "$python" -m pytest suites/identity_bias --model "$base" --audit-dir "$recorded" ${ITEMS:+--items "$ITEMS"} || code=$?
  case $code in 0 | 1 | 10) ;; *) echo "the base could not be measured (exit code $code)" >&2; exit "$code" ;; esac
fi
exec "$python" -m pytest suites/identity_bias --model "$candidate" --baseline "$recorded/latest" --profile release \
  --audit-dir "$reports" ${ITEMS:+--items "$ITEMS"}
