// The thread of loader.mjs: gives a TypeScript file's JavaScript. No types are checked.

import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const CACHE = fileURLToPath(new URL("../node_modules/.cache/tests", import.meta.url));
const hash = (text) => createHash("sha256").update(text).digest("hex");

export async function load(url, context, nextLoad) {
  if (!url.startsWith("file:")) return nextLoad(url, context);
  const path = fileURLToPath(url);
  if (!/\.m?ts$/.test(path)) return nextLoad(url, context);
  return { format: "module", source: await compiled(path), shortCircuit: true };
}

/** A file of the cache is a hash of the source, a line break, and the JavaScript. */
async function compiled(path) {
  const source = readFileSync(path, "utf8");
  const head = `${hash(source)}\n`;
  const cached = join(CACHE, hash(path));
  const known = readIfThere(cached);
  if (known?.startsWith(head)) return known.slice(head.length);
  const { transform } = await import("esbuild");
  const options = { loader: "ts", format: "esm", target: "node20", sourcemap: "inline", sourcefile: path };
  const { code } = await transform(source, options);
  mkdirSync(CACHE, { recursive: true });
  const temporary = `${cached}.${randomUUID()}`; // threads of one process may compile the same file
  writeFileSync(temporary, head + code);
  renameSync(temporary, cached);
  return code;
}

function readIfThere(path) {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}
