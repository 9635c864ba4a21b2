// Package layer is the channel layer: named channels and groups through which
// any process hands messages to any other.
package layer
