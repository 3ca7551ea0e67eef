package moderation

// TakeReport counts a report of a user.
func TakeReport(m *Moderation, user string) error { return m.reports.take(person{"", user}) }

// Reporters returns how many users are remembered who have reported something.
func Reporters(m *Moderation) int {
	m.reports.mu.Lock()
	defer m.reports.mu.Unlock()
	return len(m.reports.users)
}
