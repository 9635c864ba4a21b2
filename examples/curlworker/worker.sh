#!/usr/bin/env bash
# Works on jobs of one kind with curl alone: takes a job, says what it does and how
# far it is, and ends it. It needs the key of the HTTP door, which `tideway demo`
# prints:
#
#	export TIDEWAY_API_KEY=...
#	./worker.sh backup
#	go run ./cmd/tideway job submit backup --wait    # in another terminal
set -euo pipefail
kind=${1:?usage: worker.sh KIND} jobs=${SITE:-http://127.0.0.1:8000}/api/v1/jobs
: "${TIDEWAY_API_KEY:?is not set: it is the key that the demo prints}"

ask() {
	curl --silent --show-error --fail-with-body --max-time 60 -H "X-API-Key: $TIDEWAY_API_KEY" \
		-H "Tideway-Token: ${token:-}" -H "Content-Type: application/json" "$@"
}
field() { grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4; }
report() { ask -X PATCH "$jobs/$job" -d "$1" >/dev/null; }

# An error of a report ends the work: the job was cancelled, or is another worker's.
work() {
	report '{"log":"looking for files"}' || return
	for n in 1 2 3 4 5; do
		sleep 1 # in place of the work
		report "{\"log\":\"folder $n is saved\",\"done\":$n,\"total\":5}" || return
	done
	report '{"state":"succeeded","result":{"files":42}}'
}

while true; do
	if ! taken=$(ask -X POST "$jobs/$kind/take"); then
		echo "$taken" >&2
		sleep 2 # the server restarts
		continue
	fi
	[ -n "$taken" ] || continue # there was none for 20 seconds
	job=$(field job <<<"$taken") token=$(field token <<<"$taken")
	echo "at work on $job"
	work || echo "stopped working on $job"
done
