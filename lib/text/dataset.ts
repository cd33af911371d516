// Where a dataset is: `shakespeare_char` means data/shakespeare_char of this repository, wherever the script was
// started; anything else is a path. Also names of files and prepare scripts for messages.

import { existsSync, readdirSync } from "node:fs";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import { UserError } from "../common/errors.ts";
import { didYouMean } from "../common/nearest.ts";
import { statOf } from "../common/read_file.ts";
import { ROOT } from "../common/scripts.ts";

const DATA = join(ROOT, "data");

/** The absolute path of a dataset's folder, by its name under data/ or its path; a UserError lists the existing ones. */
export function datasetFolder(dataset: string): string {
  const isName = /^[^./\\][^/\\]*$/.test(dataset); // "." and "../x" are paths
  const places = isName ? [join(DATA, dataset), resolve(dataset)] : [resolve(dataset)];
  const found = places.find((place) => statOf(place)?.isDirectory());
  if (found !== undefined && dataset !== "") return found;
  const near = isName ? didYouMean(dataset, knownDatasets()) : undefined;
  if (near) throw new UserError(`no dataset "${dataset}"; ${near}`);
  const commands = knownDatasets().map((name) => `${name} (${prepareCommand(join(DATA, name))})`);
  throw new UserError(`no dataset "${dataset}"; there are: ${commands.join(", ")}; or give the path of a folder`);
}

/** The files of a dataset. */
export type DatasetFile = "train.bin" | "val.bin" | "meta.json";

/** The path of a file of the dataset in `folder`. While another dataset replaces it, and after a kill at that moment, complete new files still
 * have temporary names (replace.ts): these paths lead to the whole old dataset or the whole new one. */
export function datasetFile(folder: string, name: DatasetFile): string {
  const path = join(folder, name);
  const ready = join(folder, READY);
  if (!existsSync(ready)) return path;
  const waiting = name === "meta.json" ? ready : `${path}.partial`;
  return existsSync(waiting) ? waiting : path;
}

/** Once this file exists its dataset, with the tokens in *.bin.partial, is the valid one. */
export const READY = "meta.json.ready";

/** The names of the datasets that can be prepared: the folders of data/ that have a prepare.ts. */
export function knownDatasets(): string[] {
  return readdirSync(DATA).filter((name) => existsSync(join(DATA, name, "prepare.ts")));
}

/** The command that makes the files of a dataset's folder. */
export function prepareCommand(folder: string): string {
  return `npx tsx ${shownPath(join(folder, "prepare.ts"))}`;
}

/** The command to run if `file` of a dataset is missing or broken: its prepare script, if its folder has one. */
export function prepareHint(file: string): string {
  const folder = dirname(file);
  if (existsSync(join(folder, "prepare.ts"))) return `run: ${prepareCommand(folder)}`;
  return "run the dataset's prepare script with --out set to this folder";
}

/** A path for people: relative if it is inside the working directory. */
export function shownPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short === "" || short.startsWith("..") || isAbsolute(short) ? path : short;
}
