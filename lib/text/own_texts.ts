// The user's own files as the texts of a dataset: the settings of reading them, and the report about them.

import { createHash } from "node:crypto";
import { basename } from "node:path";

import { unescapeText } from "../common/escapes.ts";
import { shownPath } from "./dataset.ts";
import { noTally, piecesOf, type Reading, readPiece, type Tally } from "./documents.ts";
import { END_OF_TEXT } from "./end_of_text.ts";
import { readOrFetch, type TextRequest } from "./fetch_text.ts";
import { type InputFile, listFiles, readBytes, withInput } from "./input_files.ts";
import { onlyText, type Texts } from "./prepare_texts.ts";
import { lineEndNotice } from "./text.ts";

/** The texts of --input, or without it the text that the dataset is named after. */
export async function ownTexts(
  config: Reading & { input: readonly string[] },
  request: Omit<TextRequest, "input" | "keep_crlf">,
): Promise<Texts> {
  if (config.input.length === 0)
    return onlyText(await readOrFetch({ ...request, input: "", keep_crlf: config.keep_crlf }));
  return textsOf(listFiles(config.input, console.log), readingOf(config), request.original, console.log);
}

/** @throws UserError if the separator has an unknown escape */
export function readingOf({ field, separator, skip_bad, keep_crlf }: Reading): Reading {
  return { field, separator: unescapeText(separator, "separator"), skip_bad, keep_crlf };
}

/** The documents of some files; a report goes to `log` once they have been read. */
export function textsOf(
  files: readonly InputFile[],
  reading: Reading,
  original: { name: string; sha256: string },
  log: (line: string) => void,
): Texts {
  const [first] = files;
  const sha256 = hashOf(files);
  const one = files.length === 1 && first ? { path: shownPath(first.path) } : {};
  const name =
    sha256 === original.sha256 ? original.name : "path" in one ? basename(one.path) : `${files.length} files`;
  let told = false;
  async function* read() {
    const tally = noTally();
    let begins = false; // the next part a document?
    let any = false;
    for (const file of files) {
      for await (const piece of piecesOf(file, reading)) {
        for await (const { text, ends } of readPiece(piece, reading, tally)) {
          yield { text, begins: begins && any };
          any = true;
          begins = ends;
        }
      }
    }
    if (!told) for (const line of describeTally(name, tally, reading)) log(line);
    told = true;
  }
  return { source: { name, ...one, sha256 }, read };
}

/** The report about the documents, line by line. */
export function describeTally(name: string, tally: Tally, reading: Reading): string[] {
  const count = (n: number) => n.toLocaleString("en-US");
  const lines: string[] = [];
  if (tally.line_ends > 0) lines.push(lineEndNotice(name, tally.line_ends));
  if (tally.bad > 0)
    lines.push(`${name}: ${count(tally.bad)} rows without a text are left out; the first: ${tally.first_bad}`);
  if (tally.end_of_text > 0) {
    const advice = `--separator="${END_OF_TEXT}" makes it the end of a document in .txt and .md files`;
    const line = `${name}: ${END_OF_TEXT} occurs in the text ${count(tally.end_of_text)} times, and is read as text`;
    lines.push(reading.separator ? line : `${line}; ${advice}`);
  }
  return lines;
}

/** SHA-256 of the concatenated bytes of some files. */
function hashOf(files: readonly InputFile[]): string {
  const hash = createHash("sha256");
  for (const { path, bytes } of files) {
    withInput(path, (file) => {
      for (let at = 0; at < bytes; at += 1 << 20)
        hash.update(readBytes(file, path, at, Math.min(bytes, at + (1 << 20))));
    });
  }
  return hash.digest("hex");
}
