// tools/monitor.ts: in a pipe, on a terminal (`script` makes one) and in a real browser. The browser's part needs Chromium
// or Chrome, found by its name or named by the environment's CHROME; skipped without.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { stripVTControlCharacters } from "node:util";

import type { Page, Route } from "playwright-core";

import { METRICS_FILE } from "../../lib/monitor/metrics_file.ts";
import type { Update } from "../../tools/monitor/server.ts";
import {
  assertRefused,
  eventually,
  launch,
  launchCommand,
  oneProcess,
  ROOT,
  TSX,
  temporaryFolder,
} from "../scripts.ts";
import { complaints, inBrowser, openPage as openAny, serve as serveScript } from "./browser.ts";

const FOLDER = temporaryFolder();
const MONITOR = "tools/monitor.ts";
const SCRIPT_TAG = `<script>document.title = "taken"</script><img src=x onerror="document.title = 'taken'">`;

interface Made {
  steps: number;
  max?: number; // max_iters
  config?: Record<string, unknown>;
  end?: string;
}

const line = (event: string, iter: number, fields: object) =>
  `${JSON.stringify({ event, time: Date.now(), iter, ...fields })}\n`;
const stepOf = (iter: number, loss = 4 - iter / 50_000) =>
  line("step", iter, { loss, lr: 6e-4, grad_norm: 1.5, step_ms: 20, tokens_per_s: 35_912 });

/** A run's folder, as train.ts leaves it: evaluated every 10 steps (1,000 of long ones), with a sample. */
function madeRun(name: string, { steps, max = steps, config = {}, end }: Made): string {
  const folder = join(FOLDER, name);
  mkdirSync(folder, { recursive: true });
  const settings = { max_iters: max, dataset: "words", ...config };
  const facts = { device: "cpu", parameters: 12_345, dataset: "words" };
  const lines = [line("start", 0, { resumed: false, name, pid: process.pid, config: settings, facts })];
  const every = steps > 1000 ? 1000 : 10;
  for (let iter = 0; iter < steps; iter++) {
    if (iter % every === 0) {
      const time = { "time/data": 1, "time/compute": 3, "time/other": 0 };
      lines.push(line("evaluate", iter, { "train/loss": 3, "val/loss": 3.5 - iter / 1e6, ...time }));
      lines.push(line("text", iter, { name: "sample", text: `sample ${iter}\n${SCRIPT_TAG}` }));
    }
    lines.push(stepOf(iter, iter === 54_321 ? 99 : undefined));
  }
  if (end) lines.push(line("end", steps + 1, { reason: end }));
  writeFileSync(join(folder, METRICS_FILE), lines.join(""));
  return name;
}

const append = (name: string, text: string) => appendFileSync(join(FOLDER, name, METRICS_FILE), text);
const runHere = oneProcess();
const monitor = (...flags: string[]) => launch(MONITOR, flags, { cwd: FOLDER });

const FINISHED = madeRun("finished", { steps: 30, end: "finished", config: { n_head: 4, note: SCRIPT_TAG } });

// ---- in a pipe ---------------------------------------------------------------------------------------------------

test("once: the state as plain lines", async () => {
  const { stdout, stderr, code } = await runHere(MONITOR, [`--out_dir=${FINISHED}`, "--follow=false"], FOLDER);
  assert.equal(stderr, "");
  assert.equal(code, 0);
  const [, ...lines] = stdout.trimEnd().split("\n"); // after the overrides
  assert.match(lines[0]!, /^finished {2}finished {2}words · 12.3k parameters · cpu$/);
  assert.match(lines[1]!, /^█{8,} {2}step 30 of 30 · 100 %$/);
  assert.match(stdout, /^loss 3\.9994 {3}val loss 3\.5000 {3}best val loss 3\.5000 at 20 {3}lr 6e-4/m);
  assert.match(stdout, /[⠁-⣿]{5}/, "no line of a chart");
  assert.match(stdout, /^sample after 20 steps\n│ sample 20\n│ <script>/m);
  for (const each of lines) assert.ok(each.length <= 80, each);
  assert.ok(!stdout.includes("\x1b"));
});

test("in a pipe it waits for a run, prints what is new, and Ctrl-C ends it", async () => {
  mkdirSync(join(FOLDER, "empty"));
  const { child, ended, until } = monitor("--out_dir=empty,finished");
  await until(/● empty {2}waits for the run to begin\n\n■ finished {2}finished/);
  child.kill("SIGINT");
  const { code, stderr, stdout } = await ended;
  assert.deepEqual([code, stderr], [0, ""]);
  assert.ok(!stdout.includes("\x1b"));
});

test("a folder of runs stands for them", async () => {
  for (let i = 0; i < 9; i++) {
    madeRun(`heads/n_head=${i}/seed-1`, { steps: 3, max: 9, end: i === 0 ? "failed" : "finished" });
    await sleep(3); // so that it is known which is the newest
  }
  const axes = { n_head: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] };
  const experiment = { search: "grid", axes, list: [], trials: 10, seeds: [1] };
  writeFileSync(join(FOLDER, "heads", "experiment.json"), JSON.stringify(experiment));
  const { stdout, code } = await runHere(MONITOR, ["--out_dir=heads", "--follow=false"], FOLDER);
  assert.equal(code, 0);
  assert.match(stdout, /^runs: 8 of 10 finished\n[●■] n_head=8\/seed-1 {2}finished {2}words/m);
  assert.match(stdout, /^and 1 more: 1 failed$/m);
  assert.doesNotMatch(stdout, /n_head=0/);
});

test("two runs of one name are told apart; a folder that is missing is one line", async () => {
  const folder = join(FOLDER, "other");
  mkdirSync(folder);
  mkdirSync(join(folder, "finished"));
  const flags = ["--out_dir=finished,other/finished", "--follow=false"];
  assert.match((await runHere(MONITOR, flags, FOLDER)).stdout, /■ other\/finished {2}waits for the run to begin/);
  const refuse = (...args: string[]) => runHere(MONITOR, args, FOLDER);
  assertRefused(await refuse("--out_dir=finished,nowhere"), /no folder nowhere; name the out_dir of a run/);
  assertRefused(await refuse("--out_dir=nowhere", "--web=true"), /no folder nowhere/);
  assertRefused(await refuse("--out_dir="), /--out_dir names no folder/);
});

// ---- on a terminal -----------------------------------------------------------------------------------------------

const hasScript = spawnSync("script", ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux");

/** What is on the second screen after the last drawing. */
function lastFrame(output: string): string[] {
  const frames = output.slice(output.lastIndexOf("\x1b[?1049h")).split("\x1b[H");
  return stripVTControlCharacters(frames.findLast((frame) => frame.includes("\x1b[J"))!).split("\r\n");
}

test("on a terminal: follows, fits another size, and leaves the last state and a cursor", {
  skip: !hasScript && "no script program of util-linux here",
}, async (t) => {
  const name = madeRun("live", { steps: 20, max: 40 });
  const words = [process.execPath, ...TSX, join(ROOT, MONITOR), `--out_dir=${name}`].map((word) => `'${word}'`);
  const resize = "(while [ ! -e smaller ]; do sleep 0.1; done; stty rows 14 cols 50 < /dev/tty) &";
  const command = `stty -echo rows 30 cols 90; ${resize} exec ${words.join(" ")}`;
  const env = { SHELL: "/bin/bash" };
  const { child, ended, until } = launchCommand("script", ["-qec", command, "/dev/null"], { cwd: FOLDER, env });
  let output = "";
  child.stdout!.on("data", (part) => {
    output += part;
  });
  t.after(() => child.kill("SIGKILL"));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is where a drawing ends
  await until(/step 20 of 40.*\x1b\[J/s);
  assert.ok(output.includes("\x1b[?1049h\x1b[?25l"), "the second screen, without a cursor");
  assert.match(lastFrame(output)[0]!, /^live {2}running {2}words/);

  for (const [iter, loss] of [3.75, 3.5, 3.25].entries()) {
    append(name, stepOf(20 + iter, loss));
    await until(new RegExp(`step ${21 + iter} of 40.*${loss}`, "s"));
  }

  const wide = lastFrame(output);
  assert.ok(wide.some((each) => each.length > 50) && wide.length <= 30);
  writeFileSync(join(FOLDER, "smaller"), "");
  await eventually(() => lastFrame(output).every((each) => each.length <= 50), "a picture that is narrow enough");
  assert.ok(lastFrame(output).length <= 14);

  child.stdin!.write("\x03");
  assert.equal((await ended).code, 0);
  const [, left] = output.split("\x1b[?25h\x1b[?1049l");
  assert.match(stripVTControlCharacters(left!), /^live {2}running.*step 23 of 40.*\n$/s);
  assert.ok(!left!.includes("\x1b[?"));
});

test("on a terminal: a run that begins below the folder appears by itself", {
  skip: !hasScript && "no script program of util-linux here",
}, async (t) => {
  mkdirSync(join(FOLDER, "later"));
  const words = [process.execPath, ...TSX, join(ROOT, MONITOR), "--out_dir=later"].map((word) => `'${word}'`);
  const command = `stty -echo rows 30 cols 90; exec ${words.join(" ")}`;
  const env = { SHELL: "/bin/bash" };
  const { child, ended, until } = launchCommand("script", ["-qec", command, "/dev/null"], { cwd: FOLDER, env });
  t.after(() => child.kill("SIGKILL"));
  await until(/waits for the run to begin/);
  madeRun("later/a/seed-1", { steps: 3, max: 9 });
  await until(/a\/seed-1.*step 3 of 9/s);
  child.stdin!.write("\x03");
  assert.equal((await ended).code, 0);
});

// ---- the page ----------------------------------------------------------------------------------------------------

const serve = (...flags: string[]) => serveScript(MONITOR, ["--web=true", ...flags], { cwd: FOLDER });

async function openPage(...args: Parameters<typeof openAny>): Promise<Page> {
  const page = await openAny(...args);
  await page.waitForSelector("canvas");
  return page;
}

/** What is drawn, in words. */
const described = async (page: Page, title: string) =>
  (await page.locator(`figure:has(h3:text-is("${title}")) .place`).getAttribute("aria-label"))!;

test("a finished run: its values, samples and settings, none of them read as HTML", inBrowser, async () => {
  const [, url] = await serve(`--out_dir=${FINISHED}`);
  const page = await openPage(url);
  const card = (await page.textContent("#runs"))!;
  for (const part of ["finished", "step 30 of 30 · 100 %", "3.9994", "3.5000 at 20", "6e-4", "35.9k"]) {
    assert.ok(card.includes(part), `${part} in ${card}`);
  }
  assert.equal(await page.textContent("#connection"), "1 run, none in progress");
  assert.match(await described(page, "Loss"), /validation: 3\.5 at step 20/);
  assert.match(await described(page, "Learning rate"), /6e-4 at step 29/);
  assert.match(await described(page, "Time"), /compute 75 %, data 25 %, other 0 %/);
  assert.equal(await page.textContent("pre"), `sample 20\n${SCRIPT_TAG}`);
  await page.selectOption("select", { label: "sample after 10 steps" });
  assert.equal(await page.textContent("pre"), `sample 10\n${SCRIPT_TAG}`);
  await page.click("summary");
  assert.match((await page.textContent("tr:has(th:text-is('note'))"))!, /^note<script>/);
  assert.equal(await page.title(), "finished · nanoGPT");
  assert.equal(await page.locator("main script, main img").count(), 0);
  // logarithmic, on a phone, in the dark: no complaint, nothing wider than the window
  await page.check("#log");
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 360, height: 740 });
  await page.waitForFunction("document.documentElement.scrollWidth === 360");
});

test(
  "a line is in the next answer, the page grows by nothing, and another server is found again",
  inBrowser,
  async () => {
    const name = madeRun("growing", { steps: 12, max: 100 });
    const [server, url] = await serve(`--out_dir=${name}`);
    const page = await openPage(url);
    assert.equal(await page.textContent(".state"), "running");
    const size = () => page.evaluate<number>("document.querySelectorAll('*').length");
    const before = await size();
    const held: Route[] = []; // questions that the test lets through
    await page.route("**/update", (route) => {
      held.push(route);
    });
    for (let iter = 12; iter < 15; iter++) {
      await eventually(() => held.length > 0, "a question");
      append(name, stepOf(iter, 3 - iter / 100));
      await held.shift()!.continue();
      await page.getByText((3 - iter / 100).toFixed(4), { exact: true }).waitFor();
      assert.match(await described(page, "Loss"), new RegExp(`at step ${iter}`));
      assert.ok(held.length <= 1, `${held.length} more questions`);
    }
    await page.unroute("**/update");
    for (const route of held) await route.continue();
    append(name, line("text", 15, { name: "sample", text: "the newest" }));
    await page.getByText("the newest").waitFor();
    assert.equal(await size(), before + 1); // an option of the samples

    server.child.kill("SIGINT");
    assert.equal((await server.ended).code, 0);
    const quiet = complaints.length;
    await page.getByText("No answer from the monitor").waitFor();
    append(name, stepOf(15, 1.2345));
    await serve(`--out_dir=${name}`, `--port=${new URL(url).port}`);
    await page.getByText("1.2345", { exact: true }).waitFor();
    assert.match((await page.textContent("#connection"))!, /1 run, 1 in progress/);
    for (const complaint of complaints.splice(quiet))
      assert.match(complaint, /ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE/);
  },
);

test("two runs: both in each chart, and where their settings differ", inBrowser, async () => {
  const name = madeRun("wider", { steps: 40, max: 50, config: { n_head: 8, note: SCRIPT_TAG } });
  const page = await openPage((await serve(`--out_dir=${FINISHED},${name}`))[1]);
  assert.deepEqual(await page.locator("h2.name").allTextContents(), ["finished", "wider"]);
  assert.match(
    await described(page, "Gradient norm"),
    /finished, smoothed: 1\.5 at step 29.*wider, smoothed: 1\.5 at step 39/,
  );
  assert.deepEqual(await page.locator("#table tr").allTextContents(), [
    "settingfinishedwider",
    "max_iters3050",
    "n_head48",
  ]);
  await page.check("#all");
  assert.equal(await page.locator("#table tr").count(), 1 + 4);
  assert.equal(await page.locator("pre").count(), 2);
});

test("runs come and go on an open page: cards, lines, colours, samples, and what isn't shown", inBrowser, async () => {
  madeRun("growth/a/seed-1", { steps: 20, end: "finished" });
  const page = await openPage((await serve("--out_dir=growth"))[1]);
  const names = () => page.locator("h2.name").allTextContents();
  const titles = () => page.locator("#charts h3").allTextContents();
  const color = (label: string) => page.locator(`.run:has(h2:text-is("${label}")) .swatch`).getAttribute("style");
  assert.deepEqual(await names(), ["a/seed-1"]);
  assert.equal(await page.title(), "growth · nanoGPT");
  assert.ok((await titles()).includes("Time"));
  const first = await color("a/seed-1");

  // a second one appears
  madeRun("growth/b/seed-1", { steps: 30, max: 40 });
  await page.locator('h2.name:text-is("b/seed-1")').waitFor();
  assert.deepEqual(await names(), ["b/seed-1", "a/seed-1"]);
  assert.match(await described(page, "Loss"), /b\/seed-1, validation: .*a\/seed-1, validation: /);
  assert.deepEqual((await titles()).slice(-2), ["Time, b/seed-1", "Time, a/seed-1"]);
  assert.ok(!(await titles()).includes("Time"), "a chart that is out of date");
  assert.deepEqual(await page.locator("#sample_list h3").allTextContents(), ["b/seed-1", "a/seed-1"]);
  assert.equal(await color("a/seed-1"), first);
  assert.notEqual(await color("b/seed-1"), first);
  assert.equal(await page.textContent("#connection"), "2 runs, 1 in progress");
  assert.ok(await page.locator("#others").isHidden());

  // eight more: the first goes
  for (let i = 0; i < 8; i++) {
    madeRun(`growth/c/seed-${i}`, { steps: 5, max: 40, end: i > 0 ? "finished" : "failed" });
    await sleep(3); // so that it is known which is the newest
  }
  const experiment = { search: "list", axes: {}, list: [{}, {}], trials: 10, seeds: [1, 2, 3, 4, 5, 6, 7, 8] };
  writeFileSync(join(FOLDER, "growth", "experiment.json"), JSON.stringify(experiment));
  await page.getByText("and 2 more: 1 finished, 1 failed").waitFor();
  assert.equal(await page.textContent("#progress"), "runs: 8 of 16 finished");
  assert.equal(await page.textContent("#connection"), "10 runs, 1 in progress");
  assert.equal(await page.locator(".run").count(), 8);
  assert.doesNotMatch(await described(page, "Learning rate"), /a\/seed-1/);
  assert.ok(!(await titles()).includes("Time, a/seed-1"));
  const styles = await page.locator(".run .swatch").evaluateAll((all) => all.map((each) => each.getAttribute("style")));
  assert.equal(new Set(styles).size, 8);
  const legend = await page.locator('figure:has(h3:text-is("Loss")) .legend li').allTextContents();
  assert.deepEqual(legend, await names(), "24 lines: a name for each colour");

  // all but one are removed: the page is as it was with one
  for (const name of ["a", "c"]) rmSync(join(FOLDER, "growth", name), { recursive: true });
  await page.getByText("1 run, 1 in progress").waitFor();
  assert.deepEqual(await names(), ["b/seed-1"]);
  assert.deepEqual(await titles(), ["Loss", "Learning rate", "Gradient norm", "Speed", "Time"]);
  assert.ok(await page.locator("#sample_list h3").isHidden());
  assert.equal(await page.locator("#charts canvas").count(), 5);
});

test("100,000 steps: few points each, nothing of note lost, exact when zoomed", inBrowser, async () => {
  const name = madeRun("long", { steps: 100_000, end: "finished" });
  const [, url] = await serve(`--out_dir=${name}`);
  const page = await openPage(url);
  assert.match(await described(page, "Loss"), /step 99,999/);

  /** The answer about steps up to `to`. */
  const answer = async (to: number | undefined): Promise<Update> => {
    const response = await page.waitForResponse(
      async (each) => each.request().postDataJSON()?.range?.to === to && (await each.json()).told !== undefined,
    );
    return response.json();
  };
  const [all] = await Promise.all([answer(undefined), page.click("#whole")]);
  const whole = all.told!.runs[0]!.series.loss!;
  assert.ok(whole.iters.length < 5000, String(whole.iters.length));
  assert.equal(whole.values[whole.iters.indexOf(54_321)], 99);

  await page.fill("#from", "54300");
  await page.fill("#to", "54400");
  const [zoomed] = await Promise.all([answer(54_400), page.press("#to", "Enter")]);
  const expected = Array.from({ length: 103 }, (_, i) => 54_299 + i);
  assert.deepEqual(zoomed.told!.runs[0]!.series.loss!.iters, expected);

  // the same with the mouse: the middle half, then back
  await page.locator("figure canvas").first().scrollIntoViewIfNeeded();
  const box = (await page.locator("figure canvas").first().boundingBox())!;
  await page.mouse.move(box.x + box.width / 4, box.y + 100);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2, box.y + 110);
  await page.mouse.move(box.x + (3 * box.width) / 4, box.y + 100);
  await page.mouse.up();
  const [from, to] = [Number(await page.inputValue("#from")), Number(await page.inputValue("#to"))];
  assert.ok(from > 54_315 && from < 54_330 && to > 54_370 && to < 54_385, `${from} to ${to}`);
  await page.mouse.dblclick(box.x + box.width / 2, box.y + 100);
  assert.equal(await page.inputValue("#from"), "");
});

test("no page complained or asked another server", inBrowser, () => assert.deepEqual(complaints, []));

test("other names and origins are refused", async () => {
  const [server, url] = await serve(`--out_dir=${FINISHED}`);
  const { port } = new URL(url);
  const status = (headers: Record<string, string>) =>
    new Promise<number>((done, fail) => {
      const body = JSON.stringify({ version: "", range: null, width: 100, smoothing: null });
      const asked = request(new URL("/update", url), {
        method: "POST",
        headers: { ...headers, "Content-Length": body.length },
      });
      asked.on("response", (response) => done(response.resume().statusCode!)).on("error", fail);
      asked.end(body);
    });
  assert.equal(await status({}), 200);
  assert.equal(await status({ Host: `localhost:${port}` }), 200);
  assert.equal(await status({ Host: `evil.example:${port}` }), 403);
  assert.equal(await status({ Origin: "http://evil.example" }), 403);
  server.child.kill("SIGINT");
  assert.equal((await server.ended).code, 0);
});
