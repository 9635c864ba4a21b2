package jobapi_test

import (
	"context"
	"net/http"
	"os"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
	"github.com/tideway-go/tideway/router/httpapi"
	"github.com/tideway-go/tideway/router/jobapi"
)

// The routes for jobs are added to a door. The layer has the policies of jobs.
func Example() {
	serve := func(ctx context.Context, l *layer.Layer, mux *http.ServeMux) error {
		api, err := httpapi.New(l, &httpapi.Options{
			Keys: []httpapi.Key{{Name: "backup", Secret: os.Getenv("BACKUP_KEY"), Scopes: []string{"jobs.work:backup"}}},
		})
		if err != nil {
			return err
		}
		jobs, err := jobapi.Add(api, l, nil)
		if err != nil {
			return err
		}
		defer jobs.Close(context.WithoutCancel(ctx))
		mux.Handle("/api/v1/", api)
		return router.Serve(ctx, &http.Server{Addr: ":8000", Handler: mux}, nil, api)
	}
	_ = serve
}
