// README.md and docs/: every link and every file that is named is there, with what is said to be in it, and every command
// is one that its script accepts, flags, values and combinations. Nothing is run.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { configure } from "../configurator.ts";
import type { Value } from "../lib/settings/rules.ts";
import { ROOT } from "./scripts.ts";

// docs/extending.md isn't among them: extending.test.ts performs it
const pages = ["README.md", "CONTRIBUTING.md", ...filesBelow("docs"), ...filesBelow("data")].filter(
  (file) => file.endsWith(".md") && !file.endsWith("extending.md"),
);
const MADE_UP = /\b(mine|dropout_long|cluster|babi|NAME)\b[./]/; // files that the reader writes, or gets wrong
const textOf = (page: string) => readFileSync(join(ROOT, page), "utf8");
const folders = readdirSync(ROOT, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? entry.name : []));

function filesBelow(folder: string): string[] {
  const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" });
  return names.map((name) => join(folder, name));
}

/** A script's defaults, none where it takes no settings; those of the pipeline are train.ts', too. */
async function defaultsOf(script: string): Promise<Record<string, Value>> {
  if (!textOf(script).includes("\nexport const defaults = ")) return {};
  const { defaults: own }: { defaults: Record<string, Value> } = await import(pathToFileURL(join(ROOT, script)).href);
  return script === "tools/pipeline.ts" ? { ...(await defaultsOf("train.ts")), ...own } : own;
}

interface Command {
  script: string;
  words: string[];
}

const { scripts }: { scripts: Record<string, string> } = JSON.parse(textOf("package.json"));

/** The commands of a text that start one of our scripts. */
function commandsIn(written: string): Command[] {
  let text = written.replaceAll(/\\\n\s*/g, " ");
  for (const [, name, value] of text.matchAll(/^(\w+)="(.*)"$/gm)) text = text.replaceAll(`$${name} `, `${value} `);
  for (const [name, command] of Object.entries(scripts)) {
    text = text.replaceAll(new RegExp(`npm (?:run )?${name}(?: -- |(?![\\w-]))`, "g"), () => `npx ${command} `);
  }
  const commands = text.matchAll(/\bnpx tsx ((?:[\w-]+\/)*[\w-]+\.ts)([^`\n&]*)/g);
  return [...commands].map(([, script, rest]) => ({
    script: script!,
    words: [...rest!.replace(/\s#.*| …/, "").matchAll(/(?:[^\s"]|"[^"]*")+/g)].map(([word]) =>
      word.replaceAll('"', ""),
    ),
  }));
}

const WRITTEN = ["README.md", ...folders.filter((name) => !/^(\.|node_modules|out)/.test(name)).flatMap(filesBelow)]
  .concat(readdirSync(ROOT))
  .filter((file) => /\.(ts|md|yaml|py|js|html)$/.test(file) && !file.startsWith(join("tests", "fixtures")));

/** The commands in a file's opening comment, which --help shows as examples. */
const headOf = (file: string) => /^(?:(?:\/\/|#).*\n)*/.exec(textOf(file))![0];

test("a command that is printed or written down can be pasted: npx tsx, and no <placeholder> that a shell would open", () => {
  assert.ok(WRITTEN.length > 300);
  for (const file of WRITTEN) {
    const text = textOf(file);
    assert.doesNotMatch(text, /(?<!npx )(?<![\w./-])tsx (?:[\w./-]*\w\.ts\b|\$\{(?!JSON))/, file);
    assert.doesNotMatch(text, /npx tsx [^`\n]*=<\w/, file);
  }
});

for (const page of [...pages, ...WRITTEN.filter((file) => file.endsWith(".ts") && !file.startsWith("tests"))]) {
  const commands = commandsIn(page.endsWith(".ts") ? headOf(page) : textOf(page));
  if (commands.length === 0) continue;
  test(`${page}: its commands are accepted`, async () => {
    for (const { script: started, words } of commands) {
      const [dataset] = words;
      const script = started === "tools/data.ts" && dataset ? `data/${dataset}/prepare.ts` : started;
      assert.ok(existsSync(join(ROOT, script)), script);
      assert.ok(!words.some((word) => word.startsWith("$")), `a variable that the page doesn't set: ${words}`);
      if (script.startsWith("tests/")) continue; // has flags of its own: select.test.ts
      const file = script === "tools/experiment.ts" ? [] : words.filter((word) => existsSync(join(ROOT, word)));
      const argv = [...file, ...words.filter((word) => /^--(?!help\b)/.test(word))]; // --help would end this process
      const url = pathToFileURL(join(ROOT, script)).href;
      await configure(url, await defaultsOf(script), { argv, env: {}, log: () => {} }).catch((error) => {
        assert.fail(`${script} ${words.join(" ")}: ${error.message}`);
      });
    }
  });
}

test("links, files, and names that are said to be in a file are there", () => {
  for (const page of pages) {
    const text = textOf(page);
    for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)[^)]*\)/g)) {
      assert.ok(existsSync(join(ROOT, dirname(page), target!)), `${page}: a link to ${target}`);
    }
    for (const [path, folder] of text.matchAll(/(?<![\w./-])([\w-]+)\/[\w./-]*\w\.(?:ts|py|md|yaml|wat|svg)\b/g)) {
      if (!folders.includes(folder!) || MADE_UP.test(path)) continue;
      const places = ["", "config", dirname(page)].map((place) => join(ROOT, place, path)); // config: of what is extended
      assert.ok(places.some(existsSync), `${page}: ${path}`);
    }
    // `name` (lib/engine/trace.ts) or `name`, lib/engine/trace.ts
    for (const [, name, path] of text.matchAll(/`(\w+)(?:\([^`]*\))?`(?:,| \()\s?(\w+\/[\w/]+\.ts)/g)) {
      assert.ok(new RegExp(`\\b${name}\\b`).test(textOf(path!)), `${page}: ${name} in ${path}`);
    }
  }
});

test("a document that a source file or a message names is there", () => {
  let count = 0;
  for (const file of WRITTEN) {
    for (const [path] of textOf(file).matchAll(/(?<![\w./-])docs\/[\w/-]+\.(?:md|svg|png)\b/g)) {
      assert.ok(existsSync(join(ROOT, path)), `${file}: ${path}`);
      count++;
    }
  }
  assert.ok(count > 30);
});

test("docs/guides/configuration.md has every preset", () => {
  const text = textOf("docs/guides/configuration.md");
  const presets = ["models", "data", "training", "environments"].flatMap((folder) =>
    filesBelow(join("config", folder)),
  );
  assert.ok(presets.length >= 10);
  for (const path of presets) assert.ok(text.includes(basename(path, ".yaml")), path);
});

test("every flag in the pages is one of some script", async () => {
  const all = ["tools", "lib", "data"].flatMap(filesBelow).concat(readdirSync(ROOT));
  const known = new Set(["help", "logdir", "autocast"]); // every script's, TensorBoard's, tools/compare/rival_torch.py's
  for (const name of ["module", "suite", "test", "omit", "include"]) known.add(name); // tests/run.ts, npm
  for (const file of all.filter((file) => file.endsWith(".ts"))) {
    for (const key of Object.keys(await defaultsOf(file))) known.add(key);
  }
  for (const page of pages) {
    for (const [, key] of textOf(page).matchAll(/(?<![\w-])--(?:no-(?=\w))?([a-z]\w*)/g)) {
      assert.ok(known.has(key!), `${page}: --${key}`);
    }
  }
});
