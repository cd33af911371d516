// Temporary folders, in the system's folder for them. Each is removed when its owner's work or process ends; one left behind by a
// kill is removed when the next one is made.

import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { explain, hasCode, UserError } from "./errors.ts";
import { type FolderLock, LOCK_FILE, lock } from "./lock.ts";

const KINDS = ["model", "serve", "bench", "compare", "fuzz", "text"] as const;
type Kind = (typeof KINDS)[number];
const OURS = new RegExp(`^nanogpt-(${KINDS.join("|")})-\\w{6}$`);

export class TemporaryFolder {
  readonly path: string;
  readonly #release: FolderLock;

  /** @throws UserError where it can't be made */
  constructor(kind: Kind) {
    try {
      sweep();
      this.path = mkdtempSync(join(tmpdir(), `nanogpt-${kind}-`));
    } catch (error) {
      throw explain(error, `can't make a temporary folder in ${tmpdir()}`);
    }
    this.#release = lock(this.path, "a temporary folder");
    process.once("exit", this.#removeNow);
  }

  /** Windows can't remove a file that is mapped into memory: it stays until the process ends. */
  remove(): void {
    if (process.platform === "win32") return;
    process.off("exit", this.#removeNow);
    this.#removeNow();
  }

  readonly #removeNow = () => {
    this.#release();
    removeWhileWritten(this.path);
  };
}

const PATIENCE = 2000; // ms

/** At a signal a file may be under way: opened by another thread after its folder was listed, and before the folder is removed. */
function removeWhileWritten(folder: string): void {
  for (const deadline = performance.now() + PATIENCE; ; ) {
    try {
      rmSync(folder, { recursive: true, force: true });
      return;
    } catch (error) {
      if (!hasCode(error, "ENOTEMPTY") || performance.now() > deadline) throw error;
    }
  }
}

/** Run `body` with a new folder, which is removed afterwards. */
export async function withTemporaryFolder<T>(kind: Kind, body: (folder: string) => Promise<T>): Promise<T> {
  const folder = new TemporaryFolder(kind);
  try {
    return await body(folder.path);
  } catch (error) {
    throw explain(error, `can't work in ${folder.path}`); // a full disk, for example
  } finally {
    folder.remove();
  }
}

/** Remove the folders of processes that were killed. */
function sweep(): void {
  for (const name of readdirSync(tmpdir())) {
    const folder = join(tmpdir(), name);
    if (!OURS.test(name) || !existsSync(join(folder, LOCK_FILE))) continue; // without a lock it is just being made
    try {
      const release = lock(folder, "a sweep");
      rmSync(folder, { recursive: true, force: true });
      release();
    } catch (error) {
      // in use, another user's, or being removed by another process
      if (!(explain(error, folder) instanceof UserError)) throw error;
    }
  }
}
