// The folder of an exported model: its files, its mark, and how a new export replaces an earlier one, all files at once.

import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { GPT } from "../../model.ts";
import { type FolderKind, finishFolder, writeFolderAtomic } from "../common/atomic_folder.ts";
import { UserError } from "../common/errors.ts";
import { jsonIf, readText } from "../common/read_file.ts";
import { z } from "../common/zod.ts";
import type { Meta } from "../text/meta.ts";

const MARK = "export.json"; // marks a folder as an export's, and lists its files
const FILE_NAME = /^(?!\.+$)[^/\\:\0]+$/; // in the folder, and nowhere else
const Mark = z.object({ format: z.string(), files: z.optional(z.array(z.string().check(z.regex(FILE_NAME)))) });

/** The files of exports whose mark doesn't list them. */
const EARLIER_FILES = [
  ...["config.json", "meta.json", "model.safetensors", "model_args.json", "model.onnx", "model.onnx.data"],
  ...["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"],
];

const EXPORT: FolderKind = {
  what: "an export",
  earlier(folder) {
    const mark = readMark(folder);
    return new Set(mark ? [MARK, ...(mark.files ?? EARLIER_FILES)] : []);
  },
  heads: ["config.json", "model_args.json", "model.onnx", MARK],
};

/**
 * Write a model into a folder, in place of an earlier export; other files are kept.
 * @param format "hf", "nanogpt" or "onnx"
 * @param source the origin of the model, for people
 * @returns the names of the files
 * @throws UserError if the format can't hold the model, or another export to the folder is running
 */
export async function exportModel(
  model: GPT,
  meta: Meta | undefined,
  { to, format, source }: { to: string; format: string; source: string },
): Promise<string[]> {
  const write = await writerOf(format);
  let files: string[] = [];
  await writeFolderAtomic(to, EXPORT, async (directory) => {
    await write(model, meta, directory);
    files = readdirSync(directory).sort();
    writeFileSync(join(directory, MARK), `${JSON.stringify({ format, source, files })}\n`);
  });
  return files;
}

async function writerOf(format: string) {
  if (format === "hf") return (await import("./huggingface.ts")).writeHuggingFace;
  if (format === "nanogpt") return (await import("./nanogpt.ts")).writeNanoGPT;
  return (await import("./onnx.ts")).writeOnnx;
}

/** Finish an export that was killed after all its files were written, and remove the rest of one that was killed earlier. */
export function finishExport(to: string): void {
  finishFolder(to, EXPORT);
}

/**
 * Check that the folder is missing, empty, or holds an earlier export of this format.
 * @throws UserError if not
 */
export function checkTarget(to: string, format: string): void {
  if (!existsSync(to) || readdirSync(to).length === 0) return;
  const earlier = readMark(to)?.format;
  if (earlier === format) return;
  const what = earlier === undefined ? "other files" : `an export as ${earlier}`;
  throw new UserError(`${to} holds ${what}; name another folder with --to, or write over it with --overwrite`);
}

/** A folder's mark; undefined if there is none, or another program's. */
function readMark(folder: string): z.infer<typeof Mark> | undefined {
  return jsonIf(readText(join(folder, MARK)), Mark);
}
