// A reporter for `node --test` that writes what `go test -json` would, for tally.
export default async function* (events) {
  for await (const { type, data } of events) {
    const action = { "test:pass": "pass", "test:fail": "fail" }[type];
    if (!action) continue;
    const e = { Package: "router/clientjs", Test: data.name };
    const err = data.details?.error;
    if (action === "fail") yield line({ ...e, Action: "output", Output: `--- FAIL: ${data.name}\n${err?.cause?.stack ?? err?.stack ?? ""}\n` });
    yield line({ ...e, Action: data.skip !== undefined || data.todo !== undefined ? "skip" : action });
  }
}

const line = (event) => JSON.stringify(event) + "\n";
