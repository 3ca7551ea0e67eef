package natsbroker

import "time"

// Clock has a node's clock differ from the others'.
func Clock(now func() time.Time) Option {
	return func(c *config) { c.clock = now }
}
