// Package mounting tries a router inside the routers that people have: chi, gin
// and echo. It is a module of its own so that none of them is a dependency of
// the library.
package mounting
