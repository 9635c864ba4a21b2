#!/usr/bin/env bash
# Measures Tideway beside its peers, and writes all tables of
# docs/performance-tables.md. It needs Go; for Socket.IO Node and npm, and for
# whoever has Redis as a broker Debian's redis-server: who is not to be had is
# left out.
#
#   cmd/tideway/bench/peers/tables.sh [SECTION | SCENARIO...]
#
# Sections: fanout idle endtoend layer resume growth scaling; none named is all.
# One table of a section is named as PLAN=1 shows it: fanout-A. Nothing else
# should run on the machine: a table says when something did.
#
#   OUT=folder    for the results: tables.md, and a JSON file for each table
#                 (default: tables)
#   RUNS=5        runs, of which medians and ranges are told; growth and scaling
#                 have 3 at most
#   QUICK=1       small sizes and short runs, to see that all works
#   PLAN=1        only say what would be measured, and how long that takes
#
# A scenario that fails or takes too long is noted, and the others go on. An
# interrupt ends all that was started; what is finished by then stays.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../../.." && pwd)
out=${OUT:-tables}
runs=${RUNS:-5}
quick=${QUICK:-}
[[ -z $quick ]] || runs=${RUNS:-1}
growth_runs=$((runs < 3 ? runs : 3))

tmp=$(mktemp -d)
child=""
finish() {
	local status=$?
	trap - EXIT
	if [[ -n $child ]]; then
		kill "$child" 2>/dev/null || true
		wait "$child" 2>/dev/null || true
	fi
	rm -rf "$tmp"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Scenarios by number: what is planned before anything runs.
ids=() headings=() commands=() estimates=()
section="" only=""

# count makes a number of clients or groups small for a quick run.
count() { echo $((${quick:+1} + 0 ? ($1 + 9) / 10 : $1)); }

# lasting is how long a run takes, in tenths of a second.
lasting() { if [[ -n $quick ]]; then echo 3; else echo "$1"; fi; }

# scenario plans one: an id, a heading, who takes part (fan, redis or alone), how
# many tenths of a second a run takes, and the arguments of `tideway bench`.
scenario() {
	local id=$1 heading=$2 who=$3 tenths servers=1 points=1 r=$runs arg flag="" come=0 n args=()
	tenths=$(lasting "$4")
	shift 4
	[[ -z $only || $only == "$id" ]] || return 0
	args=("$@")
	[[ $section != growth && $section != scaling ]] || r=$growth_runs
	[[ $id != pings ]] || r=1 # it is an average over a minute
	[[ $1 != scale ]] || come=$((come + tenths * 480)) # it is silent for as long, too
	case $who in
	fan) servers=5 ;;
	redis) servers=3 ;;
	esac
	for arg; do
		[[ $arg != --floor ]] || servers=$((servers + 1))
		IFS=, read -ra n <<<"$arg"
		[[ ${#n[@]} -le 1 ]] || points=${#n[@]}
		case $flag in
		--clients | --members) come=$((come + (${arg//,/+}) / ${#n[@]})) ;;
		--groups) [[ $1 != layer ]] || come=$((come + (${arg//,/+}) / ${#n[@]})) ;;
		esac
		flag=$arg
	done
	ids+=("$section-$id")
	headings+=("$heading")
	# A run has a warm-up, a start and an end; many clients take time to come and go.
	estimates+=($((r * points * servers * (tenths * 12 + 100 + come / 40) / 100 + 1)))
	args+=(--duration "$((tenths / 10)).$((tenths % 10))s" --runs "$r")
	commands+=("$who ${args[*]}")
}

plan_fanout() {
	scenario A 'A: one group of 1,000, 100 messages a second, 128 B' fan 20 \
		broadcast --clients "$(count 1000)" --rate 100 --floor
	scenario B 'B: the same, 1 KB' fan 20 \
		broadcast --clients "$(count 1000)" --rate 100 --size 1024 --floor
	scenario C 'C: 10,000 clients in 1,000 groups of ten, 5,000 messages a second' fan 20 \
		broadcast --clients "$(count 10000)" --groups "$(count 1000)" --rate 5000 --floor
	scenario D1 'D: one message at a time to 1,000' fan 20 \
		broadcast --clients "$(count 1000)" --rate 20 --floor
	scenario D10 'D: one message at a time to 10,000' fan 30 \
		broadcast --clients "$(count 10000)" --rate 4 --floor
	scenario E 'E: one group of 1,000, 500 messages a second' fan 20 \
		broadcast --clients "$(count 1000)" --rate 500 --floor
	scenario F 'F: as A, without and with 10 that never read' fan 20 \
		broadcast --clients "$(count 1000)" --rate 100 --slow 0,10
	scenario F16 'F: 200 clients, 16 KB, without and with 4 that never read' fan 20 \
		broadcast --clients "$(count 200)" --rate 100 --size 16384 --slow 0,4
	scenario G 'G: 1 KB with permessage-deflate, 50 messages a second to 1,000' fan 20 \
		broadcast --clients "$(count 1000)" --rate 50 --size 1024 --deflate
}

plan_idle() {
	scenario 10000 '10,000 silent connections, each in a group' fan 10 \
		idle --clients "$(count 10000)"
}

plan_endtoend() {
	scenario calm '1,000 in a group, 10 messages a second' redis 50 \
		broadcast --publisher outside --clients "$(count 1000)" --rate 10
	scenario flat1 'Flat out to a group of 1,000' redis 30 \
		broadcast --publisher outside --clients "$(count 1000)" --rate 0
	scenario flat5 'Flat out to a group of 5,000' redis 30 \
		broadcast --publisher outside --clients "$(count 5000)" --rate 0
	scenario groups 'Flat out to 100 groups of ten' redis 30 \
		broadcast --publisher outside --clients "$(count 1000)" --groups "$(count 100)" --rate 0
	scenario connect 'Handshake and join, 64 at a time' redis 10 \
		connect --clients "$(count 5000)"
	scenario storm '5,000 return at once, without admission control' redis 20 \
		storm --clients "$(count 5000)" --staying "$(count 500)" --admission -1
	scenario paced '5,000 return at once, paced by the default admission' alone 20 \
		storm --clients "$(count 5000)" --staying "$(count 500)"
	scenario gentle '5,000 return at once, a quarter as fast' alone 20 \
		storm --clients "$(count 5000)" --staying "$(count 500)" --admission 500
	scenario idle '10,000 silent connections; brokers included' redis 10 \
		idle --clients "$(count 10000)"
}

plan_layer() {
	scenario one 'GroupSend to one local member' alone 40 layer
	scenario alone 'The same, one message under way at a time' alone 40 layer --window 1
	scenario groups '100,000 joined groups' alone 20 layer --groups "$(count 100000)"
	scenario durable 'Durable GroupSend, stored, acknowledged and delivered' alone 40 layer --durable
	scenario durable3 'The same on a cluster of three' alone 40 layer --durable --nodes 3
	scenario queue 'A durable queue: put in, take, acknowledge' alone 40 queue
	scenario queue3 'The same queue on a cluster of three' alone 40 queue --nodes 3
}

plan_resume() {
	scenario shared '1,000 clients of one group, 100 messages missed each' alone 10 \
		resume --clients "$(count 1000)"
	scenario own '1,000 clients, each with a group of its own' alone 10 \
		resume --clients "$(count 1000)" --groups "$(count 1000)"
	scenario shared3 'One group, three nodes; everybody returns to another one' alone 10 \
		resume --clients "$(count 1000)" --nodes 3
	scenario own3 'Groups of their own, three nodes' alone 10 \
		resume --clients "$(count 1000)" --groups "$(count 1000)" --nodes 3
}

plan_growth() {
	scenario clients 'Members of one group' alone 20 \
		broadcast --clients "10,100,1000,$(count 10000)" --rate 10
	scenario groups 'Groups, 5,000 clients, flat out' alone 20 \
		broadcast --clients "$(count 5000)" --groups "1,10,100,$(count 5000)" --rate 0
	scenario size 'Bytes of a message' alone 20 \
		broadcast --clients "$(count 1000)" --rate 50 --size 128,1024,16384
	scenario nodes 'Nodes; the publisher is outside' alone 20 \
		broadcast --publisher outside --clients "$(count 1000)" --rate 100 --nodes 1,3
	scenario flat-nodes 'Nodes, flat out' alone 20 \
		broadcast --publisher outside --clients "$(count 1000)" --rate 0 --nodes 1,3
	scenario connect 'Connections that come' alone 10 connect --clients "100,1000,$(count 10000)"
	scenario connect-nodes 'Connections that come to a cluster' alone 10 \
		connect --clients "$(count 1000)" --groups "$(count 100)" --nodes 1,3
	scenario idle 'Silent connections' alone 10 idle --clients "100,1000,$(count 10000)"
	scenario idle-groups 'Groups of 5,000 silent connections' alone 10 \
		idle --clients "$(count 5000)" --groups "1,100,$(count 5000)"
	scenario storm 'Connections that return' alone 10 \
		storm --clients "100,1000,$(count 5000)" --staying 100 --admission -1
	scenario members 'Members of one group in the layer, one message at a time' alone 10 \
		layer --window 1 --members "10,100,1000,10000,$(count 100000)"
	scenario layer-groups 'Groups in the layer' alone 10 \
		layer --groups "1,10,100,1000,10000,$(count 100000)"
	scenario layer-nodes 'Nodes in the layer, a member on each' alone 20 \
		layer --members 3 --nodes 1,3
	scenario layer-size 'Bytes of a message in the layer' alone 20 layer --size 128,1024,16384
	scenario durable-nodes 'Nodes that store' alone 20 layer --durable --nodes 1,3
	scenario queue-size 'Bytes of a message in a queue' alone 20 queue --size 128,1024,16384
	scenario resume-clients 'Clients that resume' alone 10 resume --clients "10,100,1000,$(count 5000)"
	scenario resume-groups 'Groups of 1,000 clients that resume' alone 10 \
		resume --clients "$(count 1000)" --groups "1,10,100,$(count 1000)"
	scenario resume-missed 'Messages that each of 200 misses' alone 10 \
		resume --clients "$(count 200)" --missed 10,100,1000
}

plan_scaling() {
	scenario large '45,000 connections on three processes, 4,500 groups with members on each' alone 100 \
		scale --clients "$(count 45000)" --groups "$(count 4500)" --nodes 3 --rate 1000
	scenario all 'The same in one group, 2 messages a second' alone 100 \
		scale --clients "$(count 45000)" --groups 1 --nodes 3 --rate 2
	scenario pings '10,000 silent connections for 60 s, pings included' alone 600 \
		idle --clients "$(count 10000)"
	scenario hop 'A message to one node, and to a member on each of three' alone 20 \
		layer --members 3 --nodes 1,3
	scenario interest 'What 20,000 groups of one node cost all three' alone 20 \
		layer --groups "$(count 20000)" --nodes 1,3
}

section_titles() {
	case $1 in
	fanout) echo 'Fan-out inside one process' ;;
	idle) echo 'Idle connections' ;;
	endtoend) echo 'End to end: publisher, broker, server, clients' ;;
	layer) echo 'The layer' ;;
	resume) echo 'Resume' ;;
	growth) echo 'How cost grows' ;;
	scaling) echo 'What scaling.md calculates with' ;;
	esac
}

fan=() redis=()

# build makes the programs. Peers that cannot be had are left out.
build() {
	go -C "$root" build -o "$tmp/tideway" ./cmd/tideway
	go -C "$here" build -o "$tmp/peers" .
	local name
	for name in coder gorilla gws centrifuge; do fan+=(--peer "$name=$tmp/peers $name"); done
	if ! command -v redis-server >/dev/null; then
		apt-get -qq install -y --no-install-recommends redis-server >/dev/null 2>&1 || true
	fi
	if ! command -v redis-server >/dev/null; then
		echo "tables: no redis-server: centrifuge and Socket.IO are left out end to end" >&2
		return
	fi
	redis+=(--peer "centrifuge=$tmp/peers centrifuge-redis")
	mkdir "$tmp/socketio"
	cp "$here"/socketio/{server.mjs,package.json,package-lock.json,.npmrc} "$tmp/socketio/"
	if npm ci --prefix "$tmp/socketio" --no-audit --no-fund --ignore-scripts >"$tmp/npm.log" 2>&1; then
		redis+=(--peer "socketio=node --expose-gc $tmp/socketio/server.mjs redis")
	else
		echo "tables: npm ci failed, Socket.IO is left out: $(tail -n 1 "$tmp/npm.log")" >&2
	fi
}

# measure runs scenario number $1, and adds its table.
measure() {
	local i=$1 id=${ids[$1]} who line args=() peers=() shown status=0 limit
	line=${commands[i]}
	who=${line%% *}
	read -ra args <<<"${line#* }"
	case $who in
	fan) peers=("${fan[@]}") ;;
	redis) peers=(${redis[@]+"${redis[@]}"}) ;;
	esac
	[[ ${#peers[@]} == 0 ]] || peers+=(--keep-going)
	limit=$((estimates[i] * 4 + 120))
	timeout --foreground -k 20 "$limit" "$tmp/tideway" bench "${args[@]}" ${peers[@]+"${peers[@]}"} \
		-o json --markdown "$tmp/table.md" >"$tmp/report.json" 2>"$tmp/errors" </dev/null &
	child=$!
	wait "$child" || status=$?
	child=""
	shown="tideway bench ${args[*]}"
	[[ $who == alone ]] || shown+=" \"\${${who}[@]}\""
	{
		printf "### %s\n\n\`\`\`sh\n%s\n\`\`\`\n\n" "${headings[i]}" "$shown"
		if [[ $status == 0 ]]; then
			cat "$tmp/table.md"
		elif [[ $status == 124 || $status == 137 ]]; then
			printf 'Given up after %d s.\n' "$limit"
		else
			printf 'It failed: %s\n' "$(grep -v '^$' "$tmp/errors" | tail -n 1 | tr '<|' '  ')"
		fi
		echo
	} >>"$out/tables.md"
	if [[ $status == 0 ]]; then
		mv "$tmp/report.json" "$out/$id.json"
	else
		printf 'tables: %s failed (%d): %s\n' "$id" "$status" "$(tail -n 1 "$tmp/errors")" >&2
		failures=$((failures + 1))
	fi
}

head_of_page() {
	cat <<END
# Performance: tables

Made by [tables.sh](../cmd/tideway/bench/peers/tables.sh) on $(date -u +%Y-%m-%d), of revision $(git -C "$root" rev-parse --short HEAD), on $(nproc) cores
($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)), Linux $(uname -r), $(go env GOVERSION)$(version_of 'Redis' redis-server)$(version_of Node node).
Medians of the runs [least - most]; servers take turns in each run. [Performance](performance.md) says what is measured and how far to trust it: a
remark below a table says what makes its figures doubtful. In the commands, \`fan\` and \`redis\` are the peers:

\`\`\`sh
$(peers_shown)
\`\`\`

END
}

version_of() {
	if command -v "$2" >/dev/null; then
		printf ', %s %s' "$1" "$("$2" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)"
	fi
}

peers_shown() {
	cat <<'END'
go -C cmd/tideway/bench/peers build -o peers .
npm ci --prefix cmd/tideway/bench/peers/socketio
bench=cmd/tideway/bench/peers
fan=(--peer coder="$bench/peers coder" --peer gorilla="$bench/peers gorilla" --peer gws="$bench/peers gws" --peer centrifuge="$bench/peers centrifuge")
redis=(--peer centrifuge="$bench/peers centrifuge-redis" --peer socketio="node --expose-gc $bench/socketio/server.mjs redis")
END
}

main() {
	local s i n total=0 done_=0 last=""
	local sections=("$@")
	[[ ${#sections[@]} -gt 0 ]] || sections=(fanout idle endtoend layer resume growth scaling)
	for s in "${sections[@]}"; do
		section=${s%%-*} only=""
		[[ $s == "$section" ]] || only=${s#*-}
		if [[ -z $(section_titles "$section") ]]; then
			echo "tables: there is no section $section; there are fanout, idle, endtoend, layer, resume, growth, scaling" >&2
			exit 2
		fi
		n=${#ids[@]}
		"plan_$section"
		if [[ ${#ids[@]} == "$n" ]]; then
			echo "tables: section $section has no scenario $only; PLAN=1 shows all" >&2
			exit 2
		fi
	done
	for i in "${!ids[@]}"; do
		total=$((total + estimates[i]))
		[[ -z ${PLAN:-} ]] || printf '%4d s  %-24s %s\n' "${estimates[i]}" "${ids[i]}" "${commands[i]}"
	done
	printf 'tables: %d scenarios of %d runs, about %d min\n' "${#ids[@]}" "$runs" $(((total + 59) / 60)) >&2
	[[ -z ${PLAN:-} ]] || return 0
	ulimit -n "$(ulimit -Hn)"
	if [[ $(ulimit -n) != unlimited && $(ulimit -n) -lt 10200 ]]; then
		echo "tables: $(ulimit -n) descriptors are too few for 10,000 connections (ulimit -n): those scenarios will fail" >&2
	fi
	mkdir -p "$out"
	build
	head_of_page >"$out/tables.md"
	failures=0
	for i in "${!ids[@]}"; do
		s=${ids[i]%%-*}
		if [[ $s != "$last" ]]; then
			printf '## %s\n\n' "$(section_titles "$s")" >>"$out/tables.md"
			last=$s
		fi
		printf 'tables: %d of %d, %s; about %d min left\n' $((i + 1)) "${#ids[@]}" "${ids[i]}" $(((total - done_ + 59) / 60)) >&2
		measure "$i"
		done_=$((done_ + estimates[i]))
	done
	printf 'tables: %s/tables.md is written in %d s; %d scenarios failed\n' "$out" "$SECONDS" "$failures" >&2
	[[ $failures == 0 ]]
}

main "$@"
