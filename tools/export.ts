// Writes a model for other programs: as Hugging Face's transformers, nanoGPT or ONNX runtimes load it.
//
//   npx tsx tools/export.ts --out_dir=out-shakespeare-char --format=hf --to=exported
//
// Writes over an earlier export of the same format and over nothing else, unless told to. Leaves out the optimizer's
// state: what is exported is for use, not for going on with the same run.

import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { configure } from "../configurator.ts";
import { writeFileAtomic } from "../engine/atomic.ts";
import { explain, main, UserError } from "../engine/errors.ts";
import { checkArchitecture, openModel } from "../formats/pretrained.ts";
import { GPT } from "../model.ts";

const defaults = {
  init_from: "resume", // "resume" (out_dir's checkpoint), "gpt2" to "gpt2-xl", or the folder of a model
  out_dir: "out", // folder of the checkpoint
  format: "hf", // "hf" (transformers, safetensors), "nanogpt" (its state dict) or "onnx"
  to: "exported", // the folder to write, made if need be
  overwrite: false, // even if that folder holds something else
};

const MARK = "export.json"; // says that a folder is an export's

await main(async () => {
  const config = await configure(import.meta.url, defaults, { usage: "Write a model for other programs." });
  const { format, to } = config;
  if (!config.overwrite) checkTarget(to, format);

  const opened = await openModel(config.init_from, config.out_dir);
  checkArchitecture(opened, "an export", "decoder", "encoder");
  const model = new GPT(opened.modelArgs);
  opened.read(model);
  opened.close();
  const { source, tokenizerMeta: meta } = opened;

  const write = await writerOf(format);
  try {
    mkdirSync(to, { recursive: true });
    await write(model, meta, to);
    writeFileAtomic(join(to, MARK), `${JSON.stringify({ format, source })}\n`);
  } catch (error) {
    throw explain(error, `can't write the export to ${to}`);
  }
  console.log(`wrote ${source} to ${to} as ${format}: ${readdirSync(to).join(", ")}`);
});

async function writerOf(format: string) {
  if (format === "hf") return (await import("../formats/huggingface.ts")).writeHuggingFace;
  if (format === "nanogpt") return (await import("../formats/nanogpt.ts")).writeNanoGPT;
  return (await import("../formats/onnx.ts")).writeOnnx;
}

/** A folder that is not there, is empty, or holds an earlier export of this format. */
function checkTarget(to: string, format: string): void {
  try {
    if (!existsSync(to) || readdirSync(to).length === 0) return;
  } catch (error) {
    throw explain(error, `can't write the export to ${to}`);
  }
  const earlier = formatOf(join(to, MARK));
  if (earlier === format) return;
  const what = earlier === undefined ? "other files" : `an export as ${earlier}`;
  throw new UserError(`${to} holds ${what}; name another folder with --to, or write over it with --overwrite`);
}

/** The format that a mark names; undefined where there is no mark. */
function formatOf(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return String(JSON.parse(readFileSync(path, "utf8")).format);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined; // somebody else's
    throw explain(error, `can't read ${path}`);
  }
}
