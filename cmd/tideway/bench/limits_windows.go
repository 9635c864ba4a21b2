package bench

// checkDescriptors has nothing to find out: Windows sets no limit.
func checkDescriptors(int) error { return nil }
