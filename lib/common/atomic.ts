// Files that are either whole or not there: written under another name, flushed to the disk, then renamed.

import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname } from "node:path";
import { explain } from "./errors.ts";

/** Write `chunks` as the file `path`, whole or not at all, even if the power fails meanwhile. */
export function writeFileAtomic(path: string, ...chunks: (string | Uint8Array)[]): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const file = openSync(temporary, "w");
    try {
      for (const chunk of chunks) writeFully(file, typeof chunk === "string" ? Buffer.from(chunk) : chunk);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  flushDirectory(dirname(path));
}

/**
 * Write a file of results for people or other programs, in a folder that is created if need be.
 * @throws UserError that begins with `what` if the system refuses
 */
export function writeResult(path: string, contents: string | Uint8Array, what = `can't write ${path}`): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileAtomic(path, contents);
  } catch (error) {
    throw explain(error, what);
  }
}

/** The same as JSON that people can read. */
export function writeJson(path: string, value: unknown): void {
  writeResult(path, jsonText(value));
}

/** A JSON file's text that people can read. */
export const jsonText = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

/** `writeFileAtomic` for large files: they are written off the event loop. */
export async function writeLargeFileAtomic(path: string, chunks: readonly Uint8Array[]): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const file = await open(temporary, "w");
    try {
      for (const chunk of chunks) {
        for (let done = 0; done < chunk.length; ) {
          done += (await file.write(chunk, done, Math.min(chunk.length - done, 1 << 30))).bytesWritten;
        }
      }
      await file.sync();
    } finally {
      await file.close();
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  flushDirectory(dirname(path));
}

/** `write` may take only a part of what it is given (the kernel stops at 2 GiB). */
function writeFully(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(file, bytes, done, Math.min(bytes.length - done, 1 << 30));
  }
}

/** A rename survives a power cut once its directory is flushed; Windows can't open a directory and needn't. */
export function flushDirectory(path: string): void {
  if (process.platform === "win32") return;
  const directory = openSync(path, "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
