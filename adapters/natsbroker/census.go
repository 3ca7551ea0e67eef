package natsbroker

import "context"

type census struct{}

func (s *session) admitName(ctx context.Context, n *naming) error { return nil }
