#!/usr/bin/env bash
# Pushes a message into a group with the nats tool (github.com/nats-io/natscli):
#
#	./nats-pub.sh chat.lobby '{"type":"chat.message","user":"nats","text":"hello"}'
#	NATS_URL=nats://10.0.0.5:4222 ./nats-pub.sh ...
set -euo pipefail
group=${1:?usage: nats-pub.sh GROUP JSON} message=${2:?usage: nats-pub.sh GROUP JSON}

nats pub "channels.grp.$group" "$message"
