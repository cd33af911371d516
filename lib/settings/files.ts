// Settings out of files: TypeScript and JavaScript modules, YAML and JSON, with what they extend.
//
//   extends: [models/baby.yaml, data/shakespeare_char.yaml]   # or one path; relative to the file that says it
//   n_layer: 8                                                # a file's own keys win over those that it extends
//
// Left out: what a key means and may be (configurator.ts, rules.ts), and files at an address of the network.

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

export type FileSetting = { key: string; value: unknown; source: string }; // source: the path of the file that says it

type Link = { path: string; real: string };

const MODULES = [".ts", ".mts", ".js", ".mjs"];
const DOCUMENTS = [".yaml", ".yml", ".json"];
const MAX_BYTES = 16 * 2 ** 20; // of a file of settings
const CONFIG = join(ROOT, "config");
const CONFIG_FILE = { what: "config file", hint: "settings are spelled --key=value" };

/**
 * The settings of a file after those of all files that it extends, as deep as that goes: the last one of a key counts.
 * Those that come too late to count are there as well, to be checked.
 * @param kind how to call the file in messages, and what to do where the path is not that of one
 * @throws UserError where one of the files is missing, can't be read, holds no object or extends itself
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

  // 3) what it extends, in order, and then its own
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

/** "did you mean config/models/baby.yaml?" where such a file is in the folder that `path` names, or below config/. */
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
    return []; // no such folder, or no permission: there is nothing to suggest
  }
}

async function importDefault(path: string): Promise<unknown> {
  const module: Record<string, unknown> = await import(pathToFileURL(path).href);
  if (Object.hasOwn(module, "default")) return module.default;
  const names = Object.keys(module).join(", ") || "nothing";
  throw new Error(`no default export (it exports ${names}); write: export default { ... }`);
}

async function parseDocument(path: string): Promise<unknown> {
  const yaml = await import("yaml"); // JSON too: JSON.parse lets the last of two equal keys win in silence
  const lines = new yaml.LineCounter();
  const text = readText(path, { most: MAX_BYTES }) ?? "";
  const document = yaml.parseDocument(text, { lineCounter: lines, uniqueKeys: false, logLevel: "error" }); // unique: it would compare each key with each
  const [error] = document.errors;
  if (error) throw new Error(error.message.split(":\n")[0]); // what follows draws the place in three more lines
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
