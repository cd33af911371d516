// The order of the rooms: who may import whom.
//
// A room is a folder of lib/, a tool (tools/NAME.ts with its folder tools/NAME/), or a file at the top; data/, config/ and
// examples/ are one room each. An arrow is one room's import of another, types counted: `import` and `export ... from`,
// `import("./x.ts")` (dynamic, and as a type) and `new URL("./x.ts", import.meta.url)`, which starts a thread or a process.
// Tests may import everything and are left out, and so are packages, but for the last test.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path/posix";
import { test } from "node:test";

import { ROOT } from "./scripts.ts";

/** From the ground up: a room may import those above it in this list, never those below. A new room is entered here. */
const ORDER = [
  "lib/common",
  "lib/text",
  "lib/engine",
  "lib/engine/runtime",
  "lib/nn",
  "lib/training", // knows parameters, not the GPT that they belong to
  "lib/settings", // rules: of the names that rooms above declare
  "configurator.ts",
  "model.ts",
  "lib/decoding",
  "lib/formats",
  "lib/monitor",
  "lib/bench",
  "data",
  "train.ts",
  "sample.ts",
  "bench.ts",
  "tools/page_server",
  "tools/wat",
  "tools/kernels",
  "tools/data",
  "tools/evaluate",
  "tools/export",
  "tools/doctor",
  "tools/plot",
  "tools/serve",
  "tools/monitor",
  "tools/compare",
  "tools/experiment",
  "config", // typed by the scripts that read it
  "tools/pipeline",
  "tools/fuzz",
  "examples",
  "quick_test.ts",
  "test_integration.ts",
];

/** Rooms that may import only these. */
const ONLY: Record<string, readonly string[]> = {
  "model.ts": ["lib/common", "lib/nn"],
  "lib/nn": ["lib/common", "lib/engine", "lib/engine/runtime"],
  "lib/engine": ["lib/common"],
  "lib/engine/runtime": ["lib/common", "lib/engine"],
};

/** Arrows that still run up. Whoever mends one removes it here: the test fails if one is gone but still listed. */
const KNOWN_ARROWS: readonly string[] = [];

/** Files that still import one another in a circle, each named by its first file; the same holds. */
const KNOWN_CIRCLES: readonly string[] = [];

/** What a file imports of ours, as written: "../lib/common/errors.ts". */
function importsIn(text: string): string[] {
  const forms = [
    /^(?:import|export)\b[^;"'`]*?\bfrom\s*"(\.[^"]+)"/gm,
    /^import\s*"(\.[^"]+)"/gm,
    /\bimport\(\s*"(\.[^"]+)"/g,
    /\bnew URL\("(\.[^"]+\.ts)", import\.meta\.url\)/g,
  ];
  return forms.flatMap((form) => [...text.matchAll(form)].map(([, path]) => path!));
}

function roomOf(path: string): string {
  if (path.startsWith("lib/engine/runtime/")) return "lib/engine/runtime";
  const [top, second] = path.split("/");
  if (second === undefined) return top!;
  if (top === "lib") return `lib/${second}`;
  return top === "tools" ? `tools/${second.replace(/\.ts$/, "")}` : top!;
}

const files = readdirSync(ROOT, { withFileTypes: true })
  .flatMap((entry) => {
    if (!entry.isDirectory()) return [entry.name];
    if (/^(\.|node_modules|out|tests$)/.test(entry.name)) return [];
    const below = readdirSync(join(ROOT, entry.name), { recursive: true, encoding: "utf8" });
    return below.map((name) => join(entry.name, name.replaceAll("\\", "/")));
  })
  .filter((path) => path.endsWith(".ts"))
  .sort();
const textOf = (path: string) => readFileSync(join(ROOT, path), "utf8");
const imports = new Map(
  files.map((path) => {
    const targets = importsIn(textOf(path)).map((target) => join(dirname(path), target));
    return [path, targets.filter((target) => !target.startsWith("tests/"))];
  }),
);

test("every form of an import is counted, and a remark is none", () => {
  const source = `import a, { type B } from "./1.ts";
import {
  c,
} from "./2.ts";
import type { D } from "../3.ts";
import "./4.ts";
export { e } from "./5.ts";
export * from "./6.ts";
let f: typeof import("./7.ts");
const g = await import("./8.ts");
new Worker(new URL("./9.ts", import.meta.url));
import tf from "@tensorflow/tfjs";
//   import { x } from "./no.ts";
const text = "from";
`;
  const found = importsIn(source).map((path) => /\d/.exec(path)?.[0]);
  assert.deepEqual(found.sort(), ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
});

test("every room is in the order, and whatever is imported is there", () => {
  const rooms = new Set(files.map(roomOf));
  for (const room of rooms) assert.ok(ORDER.includes(room), `${room} is no room of ORDER: enter it`);
  for (const room of ORDER) assert.ok(rooms.has(room), `${room} is in ORDER, and no file is in it: remove it`);
  for (const [path, targets] of imports) {
    for (const target of targets) assert.ok(existsSync(join(ROOT, target)), `${path} imports ${target}`);
  }
});

test("no arrow runs up", () => {
  const up = new Map<string, string[]>();
  for (const [path, targets] of imports) {
    for (const target of targets) {
      const [from, to] = [roomOf(path), roomOf(target)];
      const allowed = ORDER.indexOf(to) < ORDER.indexOf(from) && (ONLY[from]?.includes(to) ?? true);
      if (from === to || allowed) continue;
      const arrow = `${from} -> ${to}`;
      up.set(arrow, [...(up.get(arrow) ?? []), `${path} -> ${target}`]);
    }
  }
  for (const [arrow, lines] of up) assert.ok(KNOWN_ARROWS.includes(arrow), lines.join("\n"));
  for (const arrow of KNOWN_ARROWS) assert.ok(up.has(arrow), `${arrow} is mended: remove it from KNOWN_ARROWS`);
});

test("no files import one another in a circle", () => {
  const circles = circlesOf(imports);
  for (const circle of circles) assert.ok(KNOWN_CIRCLES.includes(circle[0]!), `a circle: ${circle.join(", ")}`);
  const first = circles.map((circle) => circle[0]);
  for (const file of KNOWN_CIRCLES) assert.ok(first.includes(file), `${file} is in no circle: remove it`);
});

test("the model and its layers import no package, and tfjs through lib/common/tf.ts", () => {
  for (const path of files.filter((path) => path === "model.ts" || path.startsWith("lib/nn/"))) {
    const packages = [...textOf(path).matchAll(/^import\b[^;"]*"([^."][^"]*)"/gm)].map(([, name]) => name);
    assert.deepEqual(packages, [], path);
  }
});

/** The sets of files that reach one another, each sorted (Tarjan 1972: strongly connected components of more than one). */
function circlesOf(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const order = new Map<string, number>();
  const stack: string[] = [];
  const circles: string[][] = [];
  function visit(node: string): number {
    let lowest = order.size;
    order.set(node, lowest);
    const place = stack.push(node) - 1;
    for (const next of graph.get(node) ?? []) {
      if (!order.has(next)) lowest = Math.min(lowest, visit(next));
      else if (stack.includes(next)) lowest = Math.min(lowest, order.get(next)!);
    }
    if (lowest === order.get(node)) {
      const circle = stack.splice(place);
      if (circle.length > 1) circles.push(circle.sort());
    }
    return lowest;
  }
  for (const node of graph.keys()) if (!order.has(node)) visit(node);
  return circles;
}
