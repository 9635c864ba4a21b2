// Package job runs long work that outlives everything: the page that asked for
// it, the web process that took the request, and the worker that was at it.
//
// [Submit] accepts a job and returns its id at once. A process that called [Work]
// does it. Whoever is allowed sees it with [Watch]: every event from the first, in order, now or tomorrow. [Cancel] ends it,
// [Retry] submits again what failed, [List] finds it.
//
// # A job is its log
//
// Each job has a durable group, which [Group] names, and what happened to it is
// there, as messages of type [EventType]: it was queued, an attempt started, a
// target ended, a line was logged, a checkpoint was stored, and at last the
// verdict. Nothing else is kept: a [Status] is what the events add up to, by
// [Fold], and everybody who reads them comes to the same.
//
// Every event is written on the condition that the log is where its writer
// believes it to be (compare-and-set). So
//
//   - a job has exactly one verdict: succeeded, failed, cancelled or dead. Of a
//     cancel, an end and a death that happen at once, the first that is written
//     counts, and the others hear so;
//   - an attempt that was frozen, while another one began, is refused when it
//     wakes: [ErrStale];
//   - a worker that dies leaves nothing half done in the log. The next attempt
//     begins within the queue's AckWait, and goes on at the last checkpoint.
//
// # What a handler has to do
//
// Attempts may overlap in the world, though not in the log, and a step that was
// done may not have been written down: a process can die between the two. So
// steps have to be idempotent, or to check [Lock.Token]. At most one step is
// repeated for each death if a handler calls [Run.Checkpoint] after each, or has
// [Run.Each] do it for each target.
//
// # Setting up
//
// The layers of all processes are made with [Groups] and [Queues].
package job
