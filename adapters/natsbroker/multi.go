package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// lastOf returns the newest message of each literal subject, in any order.
// Subjects without one are absent. The answer is as new as the stream was when
// the call began.
func (s *session) lastOf(ctx context.Context, subjects []string) (messages []entry, err error) {
	least, err := s.least(ctx)
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(subjects, namesPerRequest) {
		for len(part) > 0 {
			some, upTo, more, err := s.multi(ctx, part, len(part), 0)
			if err != nil {
				return nil, err
			}
			if upTo < least {
				if upTo > 0 {
					return nil, errLags
				}
				// It has none of them, and does not say how far it is.
				some, err = s.lastOneByOne(ctx, part)
				if err != nil {
					return nil, err
				}
				more = false
			}
			messages = append(messages, some...)
			if !more {
				break
			}
			have := make(map[string]bool, len(some))
			for _, e := range some {
				have[e.subject] = true
			}
			part = slices.DeleteFunc(slices.Clone(part), func(subject string) bool { return have[subject] })
		}
	}
	return messages, nil
}

// least returns the end of the stream that a server must have reached for its
// answer to be as new as the stream is now. A replica may lag behind, and only
// the leader knows by how much.
func (s *session) least(ctx context.Context) (uint64, error) {
	if !s.state.Load().clustered {
		return 0, nil
	}
	st, err := s.refresh(ctx)
	if err != nil {
		return 0, err
	}
	return st.lastSeq, nil
}

var errLags = errors.New("a replica of the stream lags behind")

// lastOneByOne asks the leader for the newest messages of subjects.
func (s *session) lastOneByOne(ctx context.Context, subjects []string) (messages []entry, err error) {
	found := make([]entry, len(subjects))
	err = parallel(ctx, len(subjects), func(ctx context.Context, i int) (err error) {
		found[i], err = s.get(ctx, `{"last_by_subj":`+quote(subjects[i])+`}`)
		return err
	})
	return slices.DeleteFunc(found, func(e entry) bool { return e.seq == 0 }), err
}

// inFlight is how many requests of one call are under way at a time.
const inFlight = 32

// parallel calls f for 0 to n-1, several at a time, until one fails.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(inFlight, n) {
		wg.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// namesSince returns the newest messages of the subjects that a filter matches,
// from a position on, and the end of the stream on the server that answered.
// It fails if there are more than 1,024 subjects.
func (s *session) namesSince(ctx context.Context, filter string, first uint64) (messages []entry, upTo uint64, err error) {
	for {
		some, end, more, err := s.multi(ctx, []string{filter}, 1024, first)
		if err != nil || len(some) == 0 {
			return messages, max(upTo, end), err
		}
		messages, upTo = append(messages, some...), end
		if !more {
			return messages, upTo, nil
		}
		first = some[len(some)-1].seq + 1
	}
}

// multi returns the newest messages of subjects from a position on, in order.
// One answer has up to most messages and may lack some. It also returns the end
// of the stream on the server that answered. If none of the subjects has a
// message, the end is not known, and 0.
func (s *session) multi(ctx context.Context, subjects []string, most int, first uint64) (messages []entry, upTo uint64, more bool, err error) {
	reply, answers, forget := s.replies.expect(most + 1)
	defer forget()
	request := make([]byte, 0, 64+len(subjects)*64)
	request = append(request, `{"multi_last":[`...)
	for i, subject := range subjects {
		if i > 0 {
			request = append(request, ',')
		}
		request = append(append(append(request, '"'), subject...), '"')
	}
	request = fmt.Appendf(request, `],"seq":%d,"max_bytes":%d}`, first, pageBytes)
	if err := s.nc.PublishRequest(s.api.direct, reply, request); err != nil {
		return nil, 0, false, err
	}
	messages, end, err := s.collect(ctx, answers)
	if err != nil || end == nil {
		return nil, 0, false, err
	}
	pending, err := number(end, "Nats-Num-Pending")
	if err != nil {
		return nil, 0, false, err
	}
	upTo, err = number(end, "Nats-UpTo-Sequence")
	return messages, upTo, pending > 0, err
}
