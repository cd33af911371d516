// The packages that only pages and plots need: package.json has them as peer dependencies, which `npm ci` installs and
// `npm ci --omit=peer` leaves out. Code that needs one checks for it first.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { UserError } from "./errors.ts";

export type ExtraPackage = "@napi-rs/canvas" | "dejavu-fonts-ttf" | "echarts" | "onnxruntime-web";

const folders = createRequire(import.meta.url).resolve.paths("echarts") ?? []; // node_modules, here and above

/** @throws UserError where one of the packages isn't installed; `use` begins its line: "can't draw a PNG" */
export function needPackages(use: string, ...names: ExtraPackage[]): void {
  const missing = names.filter((name) => !folders.some((folder) => existsSync(join(folder, name, "package.json"))));
  if (missing.length > 0)
    throw new UserError(`${use}: not installed: ${missing.join(", ")}; run: npm ci --include=peer`);
}
