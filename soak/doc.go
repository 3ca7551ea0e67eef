// Package soak tests a hub as a whole: random operations of many clients, on one or
// two hubs, against a model of the protocol.
//
//	go test ./soak                        # some seconds
//	go test ./soak -rapid.checks=10000    # as long as one wants
package soak
