package inbox

import (
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"time"

	"github.com/tideway-go/tideway/examples/pages"
	"github.com/tideway-go/tideway/examples/terminal"
)

// view is what the page shows: the login form while User is "".
type view struct {
	User, Problem string
	Commands      []terminal.Command // whole: they tell the user something

	Group, Cursor string // where the page's client goes on
	Unread        int
	Lines         []line
}

// lines are the commands that tell a user something.
func (s *Site) lines(host, user string) (all []terminal.Command) {
	for _, c := range s.commands {
		all = append(all, terminal.Command{Tool: c.Tool, Line: c.For(group(user), fmt.Sprintf(`{"type":"notify.message","text":"hello from %s"}`, c.Tool))})
	}
	return append(all, terminal.Command{Tool: "form", Line: fmt.Sprintf("curl -d text='Your order is on its way' http://%s%snotify/%s", host, Path, user)})
}

// line is one notification of the list.
type line struct {
	Text   string
	Sent   time.Time
	Unread bool
}

//go:embed page page.html
var files embed.FS

var html = template.Must(template.ParseFS(files, "page.html"))

func show(w http.ResponseWriter, status int, v view) { pages.Show(w, status, html, v) }

// assets serves the page's style, script and icon.
func assets() http.Handler {
	sub, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the path is constant
	}
	files := http.FileServerFS(sub)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}
