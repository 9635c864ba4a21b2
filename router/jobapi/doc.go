// Package jobapi is the HTTP door for jobs: for programs that submit and watch
// them, and for workers in other languages, which need nothing but curl. It adds
// its routes to an [httpapi.API], with that one's keys, limits and errors:
//
//	api, err := httpapi.New(l, &httpapi.Options{Keys: keys})
//	jobs, err := jobapi.Add(api, l, nil)
//	mux.Handle("/api/v1/", api)
//
// docs/reference/jobs.md has the bodies and the codes of errors.
//
// # Scopes
//
// A key that reads jobs needs "jobs.read", one that submits, cancels and retries
// them "jobs.write", and a worker's "jobs.work"; behind a colon the kinds of
// jobs: "jobs.write:report".
package jobapi
