// Reads settings from files: TypeScript and JavaScript modules, YAML and JSON, with the files they extend.
//
//   extends: [models/tiny.yaml, data/shakespeare_char.yaml]   # or one path; relative to this file
//   n_layer: 8                                                # a file's own keys override those it extends
//
// Left out: what keys mean and their ranges (configurator.ts, rules.ts), and remote files.

import { readdirSync, realpathSync } from "node:fs";
import { basename, dirname, extname, isAbsolute, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { UserError } from "../common/errors.ts";
import { didYouMean } from "../common/nearest.ts";
import { printable } from "../common/printable.ts";
import { readText, statOf } from "../common/read_file.ts";
import { ROOT } from "../common/scripts.ts";
import { show } from "./show.ts";

/** The default export of a config file in TypeScript: `export default {...} satisfies ConfigFile<TrainConfig>`. */
export type ConfigFile<T extends object> = Partial<T> & { extends?: string | readonly string[] };

export type FileSetting = { key: string; value: unknown; source: string }; // source: the path of its file

type Link = { path: string; real: string };

const MODULES = [".ts", ".mts", ".js", ".mjs"];
const DOCUMENTS = [".yaml", ".yml", ".json"];
const MAX_BYTES = 16 * 2 ** 20; // of a config file
const CONFIG = join(ROOT, "config");
const CONFIG_FILE = { what: "config file", hint: "settings are spelled --key=value" };

/**
 * The settings of all files that a file extends, recursively, and then its own: the last one of a key counts. Overridden ones are
 * included, so that they are checked too.
 * @param kind what the file is called in messages, and advice for a path that isn't one
 * @throws UserError if one of the files is missing, can't be read, holds no object or extends itself
 */
export async function readConfigFile(path: string, kind = CONFIG_FILE): Promise<FileSetting[]> {
  return readLink(path, [], kind);
}

/** @param chain the files from the first one to the one that extends `path` */
async function readLink(
  path: string,
  chain: readonly Link[],
  { what, hint }: typeof CONFIG_FILE,
): Promise<FileSetting[]> {
  // 1) the file
  const paths = [...chain.map((link) => link.path), path].map((each) => printable(each));
  const fail = (problem: string, cause?: unknown) =>
    new UserError(chain.length === 0 ? problem : `${problem} (${paths.join(" extends ")})`, { cause });
  if (path.includes("\0")) throw fail(`${paths.at(-1)} is no path: it holds the character NUL`);
  const full = resolve(path);
  const extension = extname(path);
  const stat = statOf(full, path);
  if (stat?.isDirectory()) throw fail(`${path} is a folder; ${chain.length === 0 ? "pass" : "name"} one ${what}`);
  if (![...MODULES, ...DOCUMENTS].includes(extension)) {
    const known = [...MODULES, ...DOCUMENTS].join(", ");
    const advice = nearFile(path) ?? (chain.length === 0 ? hint : undefined);
    throw fail(`${path} is no ${what} (${known})${advice ? `; ${advice}` : ""}`);
  }
  if (!stat) {
    const advice = nearFile(path);
    throw fail(`no ${what} ${path} (looked for ${full})${advice ? `; ${advice}` : ""}`);
  }
  if (!stat.isFile()) throw fail(`${path} is no file; ${chain.length === 0 ? "pass" : "name"} one ${what}`);
  const real = realpathSync(full);
  if (chain.some((link) => link.real === real)) throw fail(`${path} extends itself; take one of these extends out`);

  // 2) what it says
  let found: unknown;
  try {
    found = MODULES.includes(extension) ? await importDefault(full) : await parseDocument(full);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw fail(`${path}: ${printable(message.trim().replaceAll(/\s+/g, " "), 500)}`, error);
  }
  if (typeof found !== "object" || found === null || Array.isArray(found)) {
    throw fail(`${path} must hold an object of settings, got ${show(found)}`);
  }

  // 3) the files it extends, in order, and then its own settings
  const settings: FileSetting[] = [];
  const extended: unknown = Object.hasOwn(found, "extends") ? (found as { extends: unknown }).extends : [];
  for (const name of [extended].flat()) {
    if (typeof name !== "string" || name === "") {
      throw fail(`${path}: extends must be the path of a file, or a list of them, got ${show(extended)}`);
    }
    const next = isAbsolute(name) ? name : join(dirname(path), name);
    for (const setting of await readLink(next, [...chain, { path, real }], CONFIG_FILE)) settings.push(setting);
  }
  for (const [key, value] of Object.entries(found)) if (key !== "extends") settings.push({ key, value, source: path });
  return settings;
}

/** "did you mean config/models/tiny.yaml?" if there is such a file in the folder of `path`, or below config/. */
function nearFile(path: string): string | undefined {
  const there = namesBelow(dirname(resolve(path)), false).map((name) => join(dirname(path), name));
  const ours = namesBelow(CONFIG, true).map((name) => relative("", join(CONFIG, name)));
  const files = [...new Set([...there, ...ours])].filter((file) => [...MODULES, ...DOCUMENTS].includes(extname(file)));
  const stem = (file: string) => basename(file, extname(file));
  return didYouMean(stem(path), [...new Set(files.map(stem))], (name) => files.find((file) => stem(file) === name)!);
}

function namesBelow(folder: string, recursive: boolean): string[] {
  try {
    return readdirSync(folder, { recursive, encoding: "utf8" });
  } catch {
    return []; // no such folder, or no permission: nothing to suggest
  }
}

async function importDefault(path: string): Promise<unknown> {
  const module: Record<string, unknown> = await import(pathToFileURL(path).href);
  if (Object.hasOwn(module, "default")) return module.default;
  const names = Object.keys(module).join(", ") || "nothing";
  throw new Error(`no default export (it exports ${names}); write: export default { ... }`);
}

async function parseDocument(path: string): Promise<unknown> {
  const yaml = await import("yaml"); // JSON too: JSON.parse silently keeps the last of two equal keys
  const lines = new yaml.LineCounter();
  const text = readText(path, { most: MAX_BYTES }) ?? "";
  const document = yaml.parseDocument(text, { lineCounter: lines, uniqueKeys: false, logLevel: "error" }); // uniqueKeys would compare every pair of keys
  const [error] = document.errors;
  if (error) throw new Error(error.message.split(":\n")[0]); // the rest shows the place in three more lines
  yaml.visit(document, {
    Map(_, { items }) {
      const seen = new Set<unknown>();
      for (const { key } of items) {
        const name = yaml.isScalar(key) ? key.value : undefined;
        const fault = name === undefined ? "a key must be a name" : seen.has(name) && "Map keys must be unique";
        if (fault && name !== "<<") {
          const { line, col } = lines.linePos(yaml.isNode(key) ? (key.range?.[0] ?? 0) : 0);
          throw new Error(`${fault} at line ${line}, column ${col}`);
        }
        seen.add(name);
      }
    },
  });
  return document.toJS();
}
