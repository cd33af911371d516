// Prints --help: usage, examples (the commands of the script's opening comment) and its settings with the comments of its
// `const defaults = {...}` and of the groups spread into it. --help fills one screen with the most wanted settings, --help=all
// has all of them. Both are as wide as the terminal.

import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

import { UserError } from "../common/errors.ts";
import { namesOf } from "./check_value.ts";
import type { Settings } from "./rules.ts";
import { choice, show } from "./show.ts";

export type Help = "short" | "all";

/** A terminal's size in characters. */
export interface Screen {
  columns: number;
  rows: number;
}

export interface Helped {
  script: string; // its path
  command?: string; // its first words, if it has commands: "run FILE"
  usage?: string; // what it does, in one line
  defaults: Settings;
}

/** Candidates for the first screen, the most wanted first, for all scripts. */
const WANTED = [
  ...["input_file", "input", "out", "out_dir", "dataset", "init_from", "resume", "start", "num_samples"],
  ...["max_new_tokens", "temperature", "benchmark", "max_iters", "batch_size", "block_size", "n_layer", "n_head"],
  ...["n_embd", "dropout", "learning_rate", "eval_interval", "top_k", "top_p", "evaluate", "interactive", "dtype"],
  ...["always_save_checkpoint", "gradient_accumulation_steps", "threads", "seed", "compile"],
];

const LEAST = 40; // columns, however narrow the terminal is
const INDENT = 2;

/** Which help the arguments ask for; undefined if none. */
export function helpAsked(argv: readonly string[]): Help | undefined {
  const asked = argv.find((word) => word === "-h" || word === "--help" || word.startsWith("--help="));
  if (asked === undefined) return undefined;
  const how = asked.split("=")[1];
  if (how !== undefined && how !== "all") throw new UserError(`--help=${how} is neither --help nor --help=all`);
  return argv.includes("--help=all") ? "all" : "short";
}

/** The terminal's size; if stdout isn't one, $COLUMNS wide, or 80 by 24. */
export function screenOf({ columns, rows }: Partial<Screen> = process.stdout, env = process.env): Screen {
  return { columns: columns || Number(env.COLUMNS) || 80, rows: rows || Number(env.LINES) || 24 };
}

/** The text of --help or --help=all; the former fits one screen, with a line left for the prompt, if the screen is large enough. */
export function helpText(helped: Helped, help: Help, { columns, rows }: Screen): string {
  const width = Math.max(LEAST, columns);
  const settings = settingsOf(helped);
  const head = opening(helped, width);
  const all = [
    ...head,
    ...(settings[0]?.heading ? [] : [""]), // a heading has an empty line above
    ...settingLines(settings, width, true),
    "",
    ...wrapped(
      "A flag wins over the environment (NANOGPT_<KEY>=value), that over the config file, that over config/environments/" +
        "<name>.yaml where NANOGPT_ENV=<name> is set (docs/guides/configuration.md).",
      0,
      width,
    ),
  ];
  if (help === "all" || all.length < rows) return all.join("\n");

  const foot = ["", ...wrapped(`--help=all lists all ${settings.length} settings in full.`, 0, width)];
  const wanted = new Set<string>([...WANTED, ...settings.map(({ key }) => key)]);
  const known = new Map(settings.map((setting) => [setting.key, setting]));
  const room = Math.max(4, rows - 2 - head.length - foot.length);
  const chosen = [...wanted].flatMap((key) => known.get(key) ?? []).slice(0, room);
  const shown = settings.filter((setting) => chosen.includes(setting));
  return [...head, "", ...settingLines(shown, width, false), ...foot].join("\n");
}

/** Break `text` at spaces into lines of at most `width` columns; all but the first are indented. */
export function wrap(text: string, indent: number, width: number): string {
  return wrapped(text, indent, width).join("\n");
}

function wrapped(text: string, indent: number, width: number): string[] {
  return fill(text.split(" "), indent, width);
}

/** Words in lines, a space between. */
function fill(words: readonly string[], indent: number, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of words) {
    if (line.trim() !== "" && line.length + word.length > width) {
      lines.push(line.trimEnd());
      line = " ".repeat(indent);
    }
    line += `${word} `;
  }
  return [...lines, line.trimEnd()];
}

// ---- the parts ----

/** How to call it, what it does, and examples. */
function opening({ script, command, usage }: Helped, width: number): string[] {
  const name = `npx tsx ${relative("", script)}`;
  const call = `usage: ${name} ${command ?? "[config file]"} [--key=value ...]`;
  const examples = examplesOf(script).filter((line) => command === undefined || line.includes(command.split(" ")[0]!));
  return [
    ...wrapped(call, INDENT, width),
    ...(usage ? wrapped(usage, 0, width) : []),
    ...(examples.length > 0 ? ["", "examples:", ...examples.flatMap((line) => breakCommand(line, width))] : []),
  ];
}

/** The commands in the opening comment of a script, without their remarks. */
function examplesOf(script: string): string[] {
  const [head = ""] = /^(?:\/\/.*\n)*/.exec(readFileSync(script, "utf8")) ?? [];
  const commands = head.matchAll(/^\/\/ {2,}((?:npx tsx|npm run) .*?)(?:\s+#.*)?$/gm);
  return [...commands].map(([, command]) => command!);
}

/** A command broken into lines that a shell joins again; quoted words stay together. */
function breakCommand(command: string, width: number): string[] {
  const words = command.match(/(?:[^\s"]|"[^"]*")+/g) ?? [];
  const lines = fill(["", "", ...words], 2 * INDENT, width - 2); // the first two make the indent
  return lines.map((line, i) => (i < lines.length - 1 ? `${line} \\` : line));
}

interface Setting {
  key: string;
  flag: string; // with the default
  comment: string;
  heading: string; // the line above it in the script; empty for most
}

interface Remark {
  comment: string;
  heading: string;
}

/**
 * The comments on the settings of an object in a file, by key: those behind them, and those above. For an object that is spread in,
 * those of the file it is imported from.
 */
function remarksOn(object: string, path: string, remarks = new Map<string, Remark>()): Map<string, Remark> {
  const source = readFileSync(path, "utf8");
  const [, block = ""] =
    new RegExp(`^(?:export )?const ${object}\\b[^\\n]*\\{\\r?\\n(.*?)^\\}`, "ms").exec(source) ?? [];
  let heading = "";
  for (const line of block.split(/\r?\n/)) {
    const spread = /^ {2}\.\.\.(\w+),/.exec(line)?.[1];
    if (spread !== undefined) {
      const from = new RegExp(`^import \\{[^}]*\\b${spread}\\b[^}]*\\} from "(\\..*)";$`, "m").exec(source)?.[1];
      remarksOn(spread, from === undefined ? path : join(dirname(path), from), remarks);
      continue;
    }
    const title = /^\s*\/\/\s*(.*)$/.exec(line)?.[1];
    if (title !== undefined) heading = `${heading} ${title}`.trim();
    // key: value, with strings stepped over as a whole (one may hold "//"), then the comment
    const [, key, comment = ""] = /^\s*"?(\w+)"?:(?:"(?:\\.|[^"\\])*"|[^"])*?(?:\/\/\s*(.*))?$/.exec(line) ?? [];
    if (key === undefined) continue;
    remarks.set(key, { comment, heading });
    heading = "";
  }
  return remarks;
}

/** A script's settings with their comments and the names they may have. */
function settingsOf({ script, defaults }: Helped): Setting[] {
  const remarks = remarksOn("defaults", script);
  return Object.entries(defaults).map(([key, value]) => {
    const { comment = "", heading = "" } = remarks.get(key) ?? {};
    const names = namesOf(key, defaults)?.filter((name) => name !== "") ?? [];
    const isSaid = names.every((name) => comment.includes(show(name)) || name === value);
    const whole = isSaid ? comment : [choice(names), ...(comment ? [comment] : [])].join("; ");
    return { key, flag: `  --${key}=${show(value)}`, comment: whole, heading };
  });
}

/** A line for each setting, with as much of its comment as fits; `whole` has headings and full comments. */
function settingLines(settings: readonly Setting[], width: number, whole: boolean): string[] {
  const longest = Math.max(...settings.map(({ flag }) => flag.length));
  const column = Math.min(longest, 40, Math.floor(width / 2)) + 2;
  return settings.flatMap(({ flag, comment, heading }) => {
    const gap = comment && flag.length >= column ? " " : "";
    const lines = wrapped(flag.padEnd(column) + gap + comment, column, width);
    if (!whole) return lines.length === 1 ? lines : `${lines[0]!.slice(0, width - 2).trimEnd()} …`;
    return heading === "" ? lines : ["", ...wrapped(heading, 0, width), ...lines];
  });
}
