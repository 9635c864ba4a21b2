// Package consumer holds consumer types: what happens on one connection.
package consumer
