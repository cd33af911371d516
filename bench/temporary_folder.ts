// A folder for the files of one benchmark, gone afterwards even where the process is stopped meanwhile.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { explain } from "../engine/errors.ts";

/** Run `body` with a new folder below the system's one for temporary files. */
export async function withTemporaryFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "nanogpt-bench-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once("exit", remove); // bench.ts turns signals into exits
  try {
    return await body(folder);
  } catch (error) {
    throw explain(error, `can't work in ${folder}`); // a full disk, for example
  } finally {
    process.off("exit", remove);
    remove();
  }
}
