// Package e2e tries Tideway as its users meet it: the program itself, seen from
// a browser, through nginx, from Python, from Node, and from a shell. Its tests
// need Chromium, nginx, Caddy, Debian's python3 with python3-websockets, Node
// with npm, bash, curl and git, which .ci/run installs; that is why it is a
// module of its own.
package e2e
