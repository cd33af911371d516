// What the tests of pages share: a server of ours, a real browser, and what its pages complain of. Needs Chromium or
// Chrome, found by its name or named by the environment's CHROME; such tests are skipped without.

import { spawnSync } from "node:child_process";
import { after, before } from "node:test";

import { type Browser, chromium, type Page } from "playwright-core";

import { type LaunchOptions, launch, PATIENCE, type Running } from "../scripts.ts";

const names = [process.env.CHROME, "chromium", "chromium-browser", "google-chrome"].filter(
  (name) => name !== undefined,
);
const BROWSER = names.map((name) => spawnSync("which", [name], { encoding: "utf8" }).stdout?.trim()).find(Boolean);

/** For tests that need a browser. */
export const inBrowser = { skip: BROWSER ? false : `needs a browser: none of ${names.join(", ")} is here; see CHROME` };

/** Console errors, and requests to others. */
export const complaints: string[] = [];

let browser: Browser | undefined;
const servers: Running[] = [];
before(async () => {
  if (!BROWSER) return;
  // WebGPU on the processor; a page uses it only on request
  const webgpu = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
  browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox", ...webgpu] });
});
after(async () => {
  await browser?.close();
  for (const { child } of servers) child.kill("SIGKILL");
});

/** A script that serves a page, and the page's address. It is killed with the tests. */
export async function serve(
  script: string,
  flags: readonly string[],
  options: LaunchOptions,
): Promise<[Running, string]> {
  const running = launch(script, ["--open=false", ...flags], options);
  servers.push(running);
  let stdout = "";
  running.child.stdout!.on("data", (part) => {
    stdout += part;
  });
  await running.until(/http:\S+ /);
  return [running, /http:\S+/.exec(stdout)![0]];
}

/** A page of one of our servers. */
export async function openPage(address: string, options: Parameters<Browser["newPage"]>[0] = {}): Promise<Page> {
  const page = await browser!.newPage(options);
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (asked) => {
    const { origin, protocol } = new URL(asked.url());
    if (origin !== new URL(address).origin && protocol !== "data:") complaints.push(asked.url());
  });
  await page.goto(address);
  return page;
}
