// meta.json: the meaning of a dataset's tokens. Checkpoints store the same object, so that a model can be sampled without its dataset. Left
// out: creating vocabularies (characters.ts) and using them (tokenizer.ts).

import { UserError } from "../common/errors.ts";
import { printable } from "../common/printable.ts";
import { readJson } from "../common/read_file.ts";
import { z } from "../common/zod.ts";
import { datasetFile, prepareHint, shownPath } from "./dataset.ts";

// details added by a prepare script; a hand-made meta.json may omit them
const textSource = z.object({
  name: z.string(),
  url: z.exactOptional(z.string()),
  path: z.exactOptional(z.string()),
  sha256: z.string(), // of the original bytes, including a byte order mark
  characters: z.int(),
});
const collectionSource = z.object({
  name: z.string(),
  files: z.int(),
  bytes: z.int(),
  documents: z.int(),
  seed: z.int(), // with val_fraction it determines the documents of val.bin
  val_fraction: z.number(),
});
/** A dataset of pairs, source and target: each has `length` tokens, padded with `end`. */
const pairs = z.object({ length: z.int().check(z.gte(2)), end: z.int().check(z.gte(0)) });
export type Pairs = z.infer<typeof pairs>;
const counts = { train_tokens: z.exactOptional(z.int()), val_tokens: z.exactOptional(z.int()) };

const characterMeta = z.object({
  kind: z.literal("char"),
  vocab_size: z.int().check(z.gte(1), z.lte(65_536)),
  itos: z.array(z.string()), // token id -> character
  stoi: z.record(z.string(), z.int()), // character -> token id
  source: z.exactOptional(textSource),
  pairs: z.exactOptional(pairs),
  ...counts,
});

const gpt2Meta = z.object({
  kind: z.literal("gpt2"),
  vocab_size: z.literal(50_257),
  source: z.exactOptional(z.union([textSource, collectionSource])),
  pairs: z.exactOptional(pairs),
  ...counts,
});

const idsMeta = z.object({
  kind: z.literal("ids"),
  vocab_size: z.int().check(z.gte(1), z.lte(65_536)),
  pairs: z.exactOptional(pairs),
  ...counts,
});

// a dump of nanoGPT's meta.pkl has no kind: its fields determine it
const anyMeta = z.pipe(
  z.transform((json: unknown) => {
    if (typeof json !== "object" || json === null || Object.hasOwn(json, "kind")) return json;
    const kind = Object.hasOwn(json, "itos") ? "char" : Object.hasOwn(json, "vocab_size") ? "ids" : undefined;
    return kind ? { kind, ...json } : json;
  }),
  z.discriminatedUnion("kind", [characterMeta, gpt2Meta, idsMeta]),
);

/** One token per character. */
export type CharacterMeta = z.infer<typeof characterMeta>;
/** GPT-2's byte pairs, which need no vocabulary here: every program knows them. */
export type Gpt2Meta = z.infer<typeof gpt2Meta>;
/** The user's own tokens, of which only the number is known: no text. */
export type IdsMeta = z.infer<typeof idsMeta> & { source?: never };
export type Meta = CharacterMeta | Gpt2Meta | IdsMeta;
/** As written by a prepare script: complete. */
export type Complete<M extends CharacterMeta | Gpt2Meta> = M & Required<Omit<M, "pairs">>;
/** Where a text came from, so that a model can be traced back to what it was trained on. */
export type TextSource = z.infer<typeof textSource>;

/** GPT-2's encoding, for datasets without a meta.json: what nanoGPT assumes, too. */
export const GPT2_META: Gpt2Meta = { kind: "gpt2", vocab_size: 50_257 };

/** A model's vocabulary size for them: a multiple of 64. */
export const GPT2_PADDED = 50_304;

/** meta.json of a dataset's folder, or undefined if there is none. @throws UserError if it is invalid */
export function readMeta(folder: string): Meta | undefined {
  const path = datasetFile(folder, "meta.json");
  const shown = shownPath(path);
  const json = readJson(path, z.unknown(), (why) => new UserError(`${shown}: ${why}; ${prepareHint(path)}`), { shown });
  return json === undefined ? undefined : checkMeta(json, shown, prepareHint(path));
}

/**
 * The meaning of the tokens of the dataset in `folder`. Without a meta.json they are GPT-2's, as in nanoGPT, or, if `vocab_size` is another
 * number, the user's own tokens.
 * @param meta content of meta.json
 * @param vocab_size of --vocab_size; GPT-2's padded one by default
 * @returns undefined for GPT-2's tokens without a meta.json: a model's vocabulary for them is padded
 */
export function tokensOf(
  meta: Meta | undefined,
  folder: string,
  vocab_size: number,
  log: (line: string) => void,
): Meta | undefined {
  const path = shownPath(datasetFile(folder, "meta.json"));
  if (meta) {
    log(`found vocab_size = ${meta.vocab_size} (inside ${path})`);
    return meta;
  }
  const isGpt2 = vocab_size === GPT2_PADDED || vocab_size === GPT2_META.vocab_size;
  log(`no ${path}: vocab_size is ${vocab_size}, ${isGpt2 ? "for GPT-2's tokens" : "of tokens without a text"}`);
  return isGpt2 ? undefined : { kind: "ids", vocab_size };
}

/** Check that `json` is a consistent Meta. @throws UserError with `where`, the fault and the `advice` */
export function checkMeta(json: unknown, where: string, advice: string): Meta {
  const parsed = anyMeta.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = issue?.path.length ? issue.path.map(String).join(".") : "the whole";
    throw new UserError(`${where} has a wrong field, ${printable(`${field}: ${issue?.message}`)}; ${advice}`);
  }
  const meta = parsed.data;
  const fault = (meta.kind === "char" ? vocabularyFault(meta) : undefined) ?? pairsFault(meta);
  if (fault !== undefined) throw new UserError(`${where} contradicts itself: ${fault}; ${advice}`);
  return meta;
}

function vocabularyFault({ vocab_size, itos, stoi }: CharacterMeta): string | undefined {
  if (itos.length !== vocab_size) return `vocab_size is ${vocab_size}, but itos has ${itos.length} characters`;
  const long = itos.findIndex((character) => [...character].length !== 1);
  if (long >= 0) return `itos.${long} is not one character`;
  const ids = new Map(Object.entries(stoi));
  if (ids.size !== vocab_size) return `vocab_size is ${vocab_size}, but stoi has ${ids.size} characters`;
  const moved = itos.findIndex((character, id) => ids.get(character) !== id);
  if (moved >= 0) return `itos.${moved} has another number in stoi`;
  return undefined;
}

function pairsFault({ kind, vocab_size, pairs }: Meta): string | undefined {
  if (!pairs) return undefined;
  if (kind === "ids") return "pairs consist of texts, and its tokens have none";
  return pairs.end < vocab_size ? undefined : `pairs.end is ${pairs.end}, but vocab_size ${vocab_size}`;
}

/** At most 200 characters on one line, control characters escaped. */
export function listCharacters(characters: readonly string[]): string {
  const shown = characters.slice(0, 200).map((c) => (/[\p{C}\p{Zl}\p{Zp}]/u.test(c) ? escapeCharacter(c) : c));
  return shown.join("") + (characters.length > 200 ? ` … and ${characters.length - 200} more` : "");
}

function escapeCharacter(character: string): string {
  return character === "\n" ? "\\n" : `\\u{${codePoint(character).toString(16)}}`;
}

/** The code point of the first character of `text`. */
export function codePoint(text: string): number {
  return text.codePointAt(0) ?? 0;
}
