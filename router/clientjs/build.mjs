// Builds what is published and embedded: `node build.mjs dist`. A test compares a
// fresh build with the committed one.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? join(here, "dist"));
const banner = { js: "/*! tideway-client, Apache-2.0, https://github.com/tideway-go/tideway */" };
const common = { absWorkingDir: here, bundle: true, minify: true, target: "es2022", charset: "utf8", banner, legalComments: "none" };

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const bundle = (entry, file, more) => esbuild.build({ ...common, entryPoints: [entry], outfile: join(out, file), ...more });
const external = ["react", "tideway-client"];
await Promise.all([
  bundle("src/index.ts", "index.js", { format: "esm" }),
  bundle("src/react.ts", "react.js", { format: "esm", external }),
  bundle("src/react.ts", "react.cjs", { format: "cjs", external }),
]);

// The other forms differ in the last line alone. esbuild's own need 200 bytes more.
const module = readFileSync(join(out, "index.js"), "utf8");
const [body, exported] = module.split(/export\{([^{}]*)\};\n$/);
const members = exported.split(",").map((e) => e.split(" as ")).map(([local, name]) => `${name}:${local}`);
const code = body.slice(body.indexOf("\n") + 1);
writeFileSync(join(out, "index.cjs"), `${banner.js}\n"use strict";${code}module.exports={${members}};\n`);
writeFileSync(join(out, "tideway.js"), `${banner.js}\n"use strict";var Tideway=(()=>{${code}return{${members}}})();\n`);

const tsc = join(here, "node_modules/typescript/bin/tsc");
execFileSync(process.execPath, [tsc, "--declaration", "--emitDeclarationOnly", "--stripInternal", "--rootDir", join(here, "src"), "--outDir", out, "--project", join(here, "tsconfig.build.json")], { stdio: "inherit" });

// What the main classes keep to themselves needs no declaration.
rmSync(join(out, "emitter.d.ts"));

// Who requires the package needs declarations that say they are CommonJS.
for (const file of readdirSync(out).filter((f) => f.endsWith(".d.ts"))) {
  const text = readFileSync(join(out, file), "utf8");
  writeFileSync(join(out, file.replace(/\.ts$/, ".cts")), text.replace(/(["']\.\/\w+)\.js(["'])/g, "$1.cjs$2"));
}
