#!/usr/bin/env bash
# Gate a fine-tune against its base with the identity bias suite:
#
#     bash examples/gate.sh CANDIDATE BASE [REPORTS]
#
# The base is measured once per question (state of suite and tool, ITEMS, SEED, and the files of BASE where it is a
# folder) and kept under REPORTS (default: reports), and the digest of its record under REPORTS/pinned. A base whose digest
# is not known is measured again. BASE_SHA256=DIGEST takes the record with this digest and no other, for example one that
# a cache has kept. ITEMS=N asks N items instead of the suite's own number, SEED=N draws others (default 0). The exit code
# is the gate's: 0 passes; 1 a claim failed; 10 something is undecided; 11 no trust in the numbers; 4 the command is wrong.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
  exit 4
fi
candidate=$1 base=$2 reports=${3:-reports}
python=${PYTHON:-python}
asked=(--seed "${SEED:-0}" ${ITEMS:+--items "$ITEMS"})
state=$({
  find suites/identity_bias auditkit -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 cat
  if [ -e "$base" ]; then find -L "$base" -type f -printf '%P %s %T@\n' | sort; fi
} | sha256sum | cut -c1-12)
name=base-$(printf %s "$base" | tr -c 'A-Za-z0-9._-' '-')-items-${ITEMS:-default}-seed-${SEED:-0}-$state
recorded=$reports/$name pinned=$reports/pinned/$name
digest=${BASE_SHA256:-$(cat "$pinned" 2>/dev/null || true)}

if [ -z "$digest" ] || [ ! -f "$recorded/latest/audit.json" ]; then
  code=0
  "$python" -m pytest suites/identity_bias --model "$base" --audit-dir "$recorded" "${asked[@]}" || code=$?
  case $code in 0 | 1 | 10) ;; *) echo "the base could not be measured (exit code $code)" >&2; exit "$code" ;; esac
  measured=$(sha256sum < "$recorded/latest/audit.json" | cut -c1-64)
  mkdir -p "$reports/pinned" && echo "$measured" > "$pinned"
  echo "the base is recorded in $recorded/latest: BASE_SHA256=$measured"
  digest=${BASE_SHA256:-$measured}
fi
exec "$python" -m auditkit.cli gate suites/identity_bias --model "$candidate" --baseline "$recorded/latest#$digest" \
  --audit-dir "$reports" "${asked[@]}"
