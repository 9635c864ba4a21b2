#!/usr/bin/env bash
# Pushes a notification to a user with curl, through the HTTP handler of
# examples/notify, which is the demo's inbox, too. It is for where NATS is out of
# reach, or a site has its own rules about who may push:
#
#	./push_http.sh ann 'Your order is on its way'
#	SITE=http://10.0.0.5:8000 ./push_http.sh ...
set -euo pipefail
user=${1:?usage: push_http.sh USER TEXT} text=${2:?usage: push_http.sh USER TEXT}

curl --silent --show-error --fail-with-body --max-time 10 \
	--data-urlencode "text=$text" "${SITE:-http://127.0.0.1:8000}/inbox/notify/$user"
