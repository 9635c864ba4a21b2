"""Sends, reads and follows over HTTP with nothing but the standard library."""
import json
import sys
import urllib.error
import urllib.request

url, key = sys.argv[1:]


def ask(path, message=None, **headers):
    data = None if message is None else json.dumps(message).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=30)


for _ in range(2):
    answer = json.load(ask("/messages", {"type": "line", "n": 6}, Idempotency_Key="six"))
    print("duplicate" if answer.get("duplicate") else "stored")

page = json.load(ask("/messages?last=2"))
print([m["data"]["n"] for m in page["messages"]])

for line in ask("/events", Last_Event_ID=page["messages"][0]["at"]):
    if line.startswith(b"data: "):
        print(json.loads(line[6:])["n"])
        break

for headers in {"X_API_Key": "no key of this server"}, {"Content_Type": "text/plain"}:
    try:
        ask("/messages", {"type": "line"}, **headers)
    except urllib.error.HTTPError as e:
        print(e.code, json.load(e)["error"]["code"])
