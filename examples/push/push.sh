#!/usr/bin/env bash
# Pushes a message into a group, from bash, with no other tool:
#
#	./push.sh chat.lobby '{"type":"chat.message","user":"bash","text":"hello"}'
#	NATS_ADDR=10.0.0.5:4222 ./push.sh ...
set -euo pipefail
group=${1:?usage: push.sh GROUP JSON} message=${2:?usage: push.sh GROUP JSON}
address=${NATS_ADDR:-127.0.0.1:4222}

exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
LC_ALL=C # so that ${#message} counts bytes
printf 'CONNECT {"verbose":false}\r\nPUB channels.grp.%s %d\r\n%s\r\nPING\r\n' "$group" "${#message}" "$message" >&3

# PONG answers our PING once everything before it was taken.
while IFS= read -r -t 5 line <&3; do
	case $line in
	PONG*) exit 0 ;;
	-ERR*) echo "$line" >&2 && exit 1 ;;
	esac
done
echo "push.sh: $address did not answer" >&2
exit 1
