// What is published, committed and embedded.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { gzipSync } from "node:zlib";

const here = fileURLToPath(new URL("..", import.meta.url));
const read = (...path) => readFileSync(join(here, ...path), "utf8");

test("dist is what a fresh build makes", (t) => {
  const fresh = mkdtempSync(join(tmpdir(), "tideway-client-"));
  t.after(() => rmSync(fresh, { recursive: true }));
  execFileSync(process.execPath, ["build.mjs", fresh], { cwd: here });
  const dist = join(here, "dist");
  assert.deepEqual(readdirSync(dist).sort(), readdirSync(fresh).sort());
  for (const file of readdirSync(fresh)) {
    assert.ok(readFileSync(join(dist, file)).equals(readFileSync(join(fresh, file))), `dist/${file} is not what the sources make: npm run build`);
  }
});

test("a page pays 4 KB at most", () => {
  for (const file of ["index.js", "index.cjs", "tideway.js"]) {
    const size = gzipSync(read("dist", file), { level: 9 }).length;
    assert.ok(size <= 4096, `dist/${file}: ${size} bytes with gzip`);
  }
});

test("npm packs what belongs there", () => {
  const [{ files }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: here, stdio: ["ignore", "pipe", "ignore"] }));
  const want = ["LICENSE", "README.md", "package.json", ...readdirSync(join(here, "dist")).map((f) => "dist/" + f)];
  assert.deepEqual(files.map((f) => f.path).sort(), want.sort());
});

test("the package depends on nothing, and its lock on no registry", () => {
  const manifest = JSON.parse(read("package.json"));
  assert.equal(manifest.dependencies, undefined);
  for (const [name, version] of Object.entries(manifest.devDependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name);
  assert.ok(!read("package-lock.json").includes('"resolved"'));
  assert.equal(read("LICENSE"), readFileSync(join(here, "../../LICENSE"), "utf8"));
});

test("each form has the same in it", async () => {
  const names = ["Client", "Group", "ServerError", "TidewayError", "connect"];
  assert.deepEqual(Object.keys(await import("tideway-client")).sort(), names);
  const require = createRequire(import.meta.url);
  assert.deepEqual(Object.keys(require("tideway-client")).sort(), names);
  const page = vm.createContext({});
  vm.runInContext(read("dist/tideway.js"), page);
  assert.deepEqual(Object.keys(page.Tideway).sort(), names);
  const hooks = ["useGroup", "useTideway"];
  assert.deepEqual(Object.keys(await import("tideway-client/react")).sort(), hooks);
  assert.deepEqual(Object.keys(require("tideway-client/react")).sort(), hooks);
});

test("declarations need no React, and are there for both kinds of modules", () => {
  for (const file of readdirSync(join(here, "dist")).filter((f) => /\.d\.c?ts$/.test(f))) {
    const text = read("dist", file);
    assert.doesNotMatch(text, /from ["']react["']/, file);
    for (const [, path] of text.matchAll(/from "(\.[^"]+)"/g)) assert.equal(path.endsWith(".cjs"), file.endsWith(".cts"), `${file} has ${path}`);
  }
});

test("hooks render on a server, without a connection", async () => {
  const { createElement } = await import("react");
  const { renderToString } = await import("react-dom/server");
  const { useGroup, useTideway } = await import("tideway-client/react");
  function Lines() {
    const { client, state } = useTideway("/ws/");
    const lines = useGroup(client, "job.42", (all, m) => [...all, m.text], ["from the server"]);
    return createElement("p", null, state, " ", lines.join());
  }
  assert.equal(renderToString(createElement(Lines)), "<p>connecting<!-- --> <!-- -->from the server</p>");
});
