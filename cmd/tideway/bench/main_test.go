package bench

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestMain makes a child of the test binary, which a benchmark starts.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == ProgramName {
		if err := Serve(context.Background(), os.Stdin, os.Stdout, Own(slog.New(slog.DiscardHandler))); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
