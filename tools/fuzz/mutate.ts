// Damages files: bytes are flipped, removed or repeated; values in JSON and text are changed or removed. Or replaces a file: by nothing, a
// folder, a pipe, a device, circular links.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";

import type { Chance } from "./chance.ts";

/** A file's format, for damage beyond its first bytes. */
export type Format = "bytes" | "text" | "json" | "jsonl";

/** Damage a file. @returns what was done, in words */
export function damage(path: string, format: Format, chance: Chance): string {
  if (chance.is(0.04)) return replace(path, chance);
  const before = readFileSync(path);
  const how = chance.is(0.25) ? "bytes" : format;
  const [after, what] = how === "bytes" ? mutateBytes(before, chance) : mutateText(before.toString(), how, chance);
  writeFileSync(path, after);
  return what;
}

function mutateText(text: string, format: Format, chance: Chance): [string, string] {
  if (format === "json") return mutateJson(text, chance);
  return format === "jsonl" ? mutateLines(text, chance) : mutateWords(text, chance);
}

/** Replace a file by something else. */
function replace(path: string, chance: Chance): string {
  rmSync(path);
  const ways: Record<string, () => void> = {
    nothing: () => {},
    "a folder": () => mkdirSync(path),
    "links in a circle": () => symlinkSync(path, path),
    "a file of 300 MB without content": () => {
      writeFileSync(path, "");
      truncateSync(path, 300 * 2 ** 20); // sparse; larger than files that are read at once
    },
  };
  if (process.platform !== "win32") {
    ways["a pipe"] = () => execFileSync("mkfifo", [path]);
    ways["a device"] = () => symlinkSync("/dev/zero", path);
  }
  const what = chance.pick(Object.keys(ways));
  ways[what]!();
  return `${what} in its place`;
}

// ---- bytes ----

function mutateBytes(bytes: Buffer, chance: Chance): [Buffer, string] {
  const at = chance.below(bytes.length + 1);
  // mostly near the start: headers are there, and a footer's length at the end
  const near = chance.pick([at, Math.min(at, chance.below(64)), Math.max(0, bytes.length - 1 - chance.below(64))]);
  const count = 1 + chance.below(chance.pick([1, 8, 64, 4096]));
  const noise = Buffer.from(Array.from({ length: Math.min(count, 512) }, () => chance.below(256)));
  const ways: Record<string, () => Buffer> = {
    "a bit is another": () => {
      const copy = Buffer.from(bytes);
      if (copy.length > 0) copy[near % copy.length]! ^= 1 << chance.below(8);
      return copy;
    },
    "bytes are others": () => {
      const copy = Buffer.from(bytes);
      noise.copy(copy, near);
      return copy;
    },
    "bytes are 255": () => Buffer.from(bytes).fill(255, near, Math.min(bytes.length, near + Math.min(count, 8))),
    "bytes are 0": () => Buffer.from(bytes).fill(0, near, Math.min(bytes.length, near + count)),
    "bytes are gone": () => Buffer.concat([bytes.subarray(0, near), bytes.subarray(near + count)]),
    "bytes came in": () => Buffer.concat([bytes.subarray(0, near), noise, bytes.subarray(near)]),
    "bytes are there twice": () => Buffer.concat([bytes.subarray(0, near + count), bytes.subarray(near)]),
    "it is cut off": () => bytes.subarray(0, at),
    "it is empty": () => Buffer.alloc(0),
    "it is there twice": () => Buffer.concat([bytes, bytes]),
    "it is noise": () => noise,
  };
  const what = chance.pick(Object.keys(ways));
  return [ways[what]!(), `${what} (at ${near}, ${count})`];
}

// ---- JSON ----

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** JSON values that often break programs. */
const VALUES: readonly string[] = [
  ...["null", "true", "false", "0", "-1", "-0", "0.5", "1e-320", "3", "255", "65536", "2147483648", "4294967296"],
  ...["1099511627776", "9007199254740993", "99999999999", "1e9", "1e15", "1e308", "1e999", "-1e999"],
  ...['""', '" "', '"0"', '"x"', '"a,b"', '"true"', '"../x"', '"/etc/passwd"', '"/dev/zero"', '"."', '".."'],
  ...['"a\\u0000b"', '"\\u001b[2J\\u001b]0;title\\u0007"', '"a\\nb\\r\\nc"', '"\\u2028"', '"\\ud800"', '"é漢🙂"'],
  ...['"__proto__"', '"constructor"', '"toString"', "[]", "[null]", "[[]]", "{}", '{"toString":null}', '{"length":5}'],
  ...['{"__proto__":{"x":1}}', '{"toJSON":1}', "[1,2,3]", '["a","b"]', "NaN", "undefined", "'x'", ""],
];
const LARGE: readonly (() => string)[] = [
  () => `"${"long ".repeat(50_000)}"`,
  () => `${"[".repeat(20_000)}${"]".repeat(20_000)}`,
  () => `[${"0,".repeat(200_000)}0]`,
  () => `{${Array.from({ length: 50_000 }, (_, i) => `"name ${i}":${i}`).join(",")}}`,
];

/** A placeholder for replaced text in JSON. */
const MARK = "\u0001here\u0001";

function mutateJson(text: string, chance: Chance): [string, string] {
  let root: Json;
  try {
    root = JSON.parse(text);
  } catch {
    return mutateWords(text, chance);
  }
  const done: string[] = [];
  let result = text;
  for (let i = 0; i < 1 + chance.below(2); i++) {
    const [next, what] = mutateValue(root, chance);
    done.push(what);
    result = next;
    if (next.length > text.length + 10_000) break; // enough
    try {
      root = JSON.parse(next);
    } catch {
      break; // not JSON
    }
  }
  return [result, done.join("; ")];
}

/** The JSON text of `root` with one value changed. */
function mutateValue(root: Json, chance: Chance): [string, string] {
  // 1) a position: deep ones as likely as others
  let place: Json = root;
  const path: (string | number)[] = [];
  let holder: Json[] | { [key: string]: Json } | undefined;
  while (typeof place === "object" && place !== null) {
    const keys = Object.keys(place);
    if (keys.length === 0 || (holder && chance.is(0.15))) break;
    const key = chance.pick(keys);
    holder = place;
    path.push(key);
    place = (place as Record<string, Json>)[key]!;
  }
  const where = path.join(".").slice(0, 80) || "the whole";
  const value = chance.is(0.03) ? chance.pick(LARGE)() : chance.pick(VALUES);
  if (!holder) return [value, `${where} is ${value.slice(0, 40)}`];

  // 2) the change
  const key = path.at(-1)!;
  const put = (text: string) => {
    (holder as Record<string, Json>)[key] = MARK;
    return JSON.stringify(root).replace(JSON.stringify(MARK), () => text);
  };
  const replaced = (): [string, string] => [put(value), `${where} is ${value.slice(0, 40)}`];
  const ways: (() => [string, string])[] = [
    ...[replaced, replaced], // twice as often as the others
    () => {
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete holder![key];
      return [JSON.stringify(root), `${where} is gone`];
    },
    () => [
      put(`${JSON.stringify(place)},${Array.isArray(holder) ? "" : `${JSON.stringify(key)}:`}${value || 0}`),
      `${where} is there twice, then ${value.slice(0, 40)}`,
    ],
    () => {
      const name = chance.pick(["__proto__", "constructor", "", "new", "a\u0000", "\u001b[2J", "x".repeat(100_000)]);
      const more = Array.isArray(holder) ? value || 0 : `${JSON.stringify(name)}:${value || 0}`;
      return [put(`${JSON.stringify(place)},${more}`), `${where} has a neighbour ${JSON.stringify(name).slice(0, 40)}`];
    },
    () => {
      const near = typeof place === "number" ? place + chance.pick([-1, 1, 0.5, -2 * place]) : `${place}x`;
      return [put(JSON.stringify(near)), `${where} is ${JSON.stringify(near).slice(0, 40)}`];
    },
  ];
  return chance.pick(ways)();
}

// ---- lines and words ----

function mutateLines(text: string, chance: Chance): [string, string] {
  const lines = text.split("\n");
  const at = chance.below(Math.max(1, lines.length - 1));
  const ways: (() => string)[] = [
    () => {
      const [line, what] = mutateJson(lines[at]!, chance);
      lines[at] = line;
      return what;
    },
    () => {
      lines.splice(at, 1 + chance.below(3));
      return "is gone";
    },
    () => {
      lines.splice(at, 0, lines[chance.below(lines.length)]!);
      return "is a line from elsewhere";
    },
    () => {
      lines.splice(
        at,
        0,
        chance.pick(["null", "[]", "{}", "3", '"x"', "{", "\u0000", "\r", " ".repeat(1e6), "x".repeat(1e6)]),
      );
      return "came in";
    },
  ];
  const what = chance.is(0.6) ? ways[0]!() : chance.pick(ways)();
  return [lines.join("\n"), `line ${at + 1}: ${what}`];
}

/** Another text in place of a word, a number, a sign or a space. */
function mutateWords(text: string, chance: Chance): [string, string] {
  const words = [...text.matchAll(/[\w.]+|\s+|[^\w\s]/g)];
  if (words.length === 0) return [chance.pick(VALUES), "it is something else"];
  const word = chance.pick(words);
  const signs = [
    "\t",
    "\n",
    ":",
    "- ",
    "{",
    "[",
    '"',
    "'",
    "#",
    "&a ",
    "*a",
    "!!js ",
    "|",
    "<<",
    "\u0000",
    "\u001b[2J",
    ",",
  ];
  const other = chance.is(0.3) ? chance.pick(signs) : chance.is(0.03) ? chance.pick(LARGE)() : chance.pick(VALUES);
  const shown = `${JSON.stringify(word[0]).slice(0, 40)} at ${word.index} is ${JSON.stringify(other).slice(0, 40)}`;
  return [text.slice(0, word.index) + other + text.slice(word.index + word[0].length), shown];
}

/** A value for a flag or a variable, as text. */
export function anyValue(chance: Chance): string {
  return chance.pick(VALUES).replace(/^"(.*)"$/s, "$1");
}
