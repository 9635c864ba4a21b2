package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/httpapi"
)

// The door is mounted beside the rest of a site, and ends with it.
func Example() {
	serve := func(ctx context.Context, l *layer.Layer, mux *http.ServeMux, sockets *router.Router) error {
		api, err := httpapi.New(l, &httpapi.Options{
			Keys: []httpapi.Key{
				{Name: "deploy script", Secret: os.Getenv("DEPLOY_KEY"), Scopes: []string{"groups.write:build.>"}},
				{Name: "dashboard", Secret: os.Getenv("DASHBOARD_KEY"), Scopes: []string{"groups.read"}},
			},
		})
		if err != nil {
			return err
		}
		mux.Handle("/api/v1/", api)
		return router.Serve(ctx, &http.Server{Addr: ":8000", Handler: mux}, nil, sockets, api)
	}
	_ = serve
}

// A page gets a place and a token, for its EventSource.
func ExampleAPI_Token() {
	l, err := layer.New(membus.New(), &layer.Options{Groups: []layer.Retention{{Pattern: "build.>"}}})
	if err != nil {
		panic(err)
	}
	defer l.Close(context.Background())
	api, err := httpapi.New(l, nil)
	if err != nil {
		panic(err)
	}
	page := func(w http.ResponseWriter, r *http.Request) error {
		at, err := l.Position(r.Context(), "build.42") // before the state of the page is read
		if err != nil {
			return err
		}
		token, _, err := api.Token("build.42", time.Hour) // for whoever may see the page
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, `<body data-token="%s" data-at="%s">`, token, at)
		return err
	}
	w := httptest.NewRecorder()
	err = page(w, httptest.NewRequest("GET", "/builds/42", nil))
	fmt.Println(err, w.Body.Len() > 60)
	// Output: <nil> true
}
