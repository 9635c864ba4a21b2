// Package door is the way in for programs that speak HTTP and nothing else: a
// script with curl, a webhook, a worker in another language.
//
// [Guard] lets in whoever brings a key, within limits; [Jobs] is the door for
// jobs. Both are http.Handlers, to be mounted on any mux:
//
//	jobs, err := door.Jobs(l, nil)
//	api, err := door.Guard(jobs, &door.Options{Keys: map[string]string{key: "deploy bot"}})
//	mux.Handle("/api/v1/jobs", api)
//	mux.Handle("/api/v1/jobs/", api)
//
// # Errors
//
// Every answer that is no success has the body
//
//	{"error":{"code":"no_job","message":"job: no such job with the id x"}}
//
// whose code is for programs and whose message is for people.
package door
