// Checks a value against its key's rule (rules.ts). The message for a bad one lists what is possible, and guesses what users of
// nanoGPT or PyTorch may have meant.

import { didYouMean } from "../common/nearest.ts";
import { z } from "../common/zod.ts";
import { takePassword } from "./login.ts";
import { ruleFor, type Settings, type Value } from "./rules.ts";
import { choice, show } from "./show.ts";

export type Checked = { value: Value } | { problem: string; hint: string }; // "n_layer must be ..., got ..."; "" or "; did you mean ...?"

/** Check the value of `key`, in a script with these defaults. A password in it moves to the environment (login.ts). */
export function checkValue(key: string, value: unknown, defaults: Readonly<Settings>): Checked {
  const rule = ruleFor(key, defaults[key]!);
  const checked = rule.safeParse(value);
  const known = namesOf(key, defaults);
  if (checked.success && (known === undefined || known.includes(checked.data as string))) {
    return { value: takePassword(key, checked.data) };
  }
  const wanted = key === "dtype" ? choice(known!) : checked.error!.issues[0]!.message;
  const hint =
    typeof value !== "string" || known === undefined
      ? undefined
      : (foreign(key, value, known) ?? didYouMean(value, known, show));
  return { problem: `${key} must be ${wanted}, got ${show(value)}`, hint: hint === undefined ? "" : `; ${hint}` };
}

/** The names that a key may have in a script with these defaults; undefined where it isn't a choice of names. */
export function namesOf(key: string, defaults: Readonly<Settings>): readonly string[] | undefined {
  const rule: unknown = ruleFor(key, defaults[key]!);
  if (key === "dtype") return ["float32", Object.hasOwn(defaults, "gradient_accumulation_steps") ? "float16" : "int8"];
  return rule instanceof z.ZodMiniEnum ? rule.options.map(String) : undefined;
}

/** Advice for a name from nanoGPT, PyTorch or another of our scripts. */
function foreign(key: string, value: string, offered: readonly string[]): string | undefined {
  if (key === "device" && /^(cuda|gpu|mps|xpu|hip|rocm|tpu)/i.test(value)) {
    return "a GPU is not used so far: leave --device out, and all cores of the processor are";
  }
  if (key === "backend") return "a run is one process so far: leave --backend out";
  if (key !== "dtype") return undefined;
  if (/^b(float|f)_?16$/i.test(value)) return "leave --dtype out: on a processor float32 is the fastest here";
  if (/^(fp|f|half)_?(16)?$/i.test(value) && offered.includes("float16")) return 'did you mean "float16"?';
  if (value === "int8") return "int8 is for trained weights: npx tsx sample.ts --dtype=int8";
  if (value === "float16") return "float16 is for training, and checkpoints have float32 weights: leave --dtype out";
  return undefined;
}
