// Package tideway is the root of the module; it holds no code. The library is
// in package layer (named channels and groups, over NATS), package consumer
// (what happens on one connection) and package router (an http.Handler from
// paths to consumers). The program is in cmd/tideway.
package tideway
